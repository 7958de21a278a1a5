"""The progress of a run: numbers that a checkpoint keeps in `run.json`, next to its tensors."""

import json
import math
from dataclasses import asdict
from pathlib import Path

from pydantic.dataclasses import dataclass

from ..errors import LiquidError, first_line
from ..runtime.validation import STRICT, plain_errors
from .settings import TrainSettings

FILE = "run.json"


@plain_errors
@dataclass(config=STRICT)
class EarlyStopping:
    """The best held-out loss so far, for early stopping.

    Attributes:
        best: lowest loss so far, in bits per byte.
        best_step: step of that loss.
        worse: number of evaluations since then.

    Example:
        >>> early_stopping = EarlyStopping()
        >>> early_stopping.add(2.0, step=10)
        >>> early_stopping.add(2.1, step=20)
        >>> early_stopping.best, early_stopping.best_step, early_stopping.worse
        (2.0, 10, 1)
    """

    best: float = math.inf
    best_step: int = 0
    worse: int = 0

    def add(self, bits: float, step: int) -> None:
        """Record the result of an evaluation, in bits per byte, at a training step."""
        if bits < self.best:
            self.best, self.best_step, self.worse = bits, step, 0
        else:
            self.worse += 1


@plain_errors
@dataclass(config=STRICT)
class TrainerState:
    """The progress of a run.

    Attributes:
        step: number of training steps so far.
        seconds: training time so far.
        skipped: non-finite steps in a row.
        rolled_back: returns to a checkpoint in a row.
        early_stopping: best held-out loss, for early stopping.
        batches: place in the text; see `StreamBatches.state_dict`.
        settings: settings of the run.
        held_out: checksum of the held-out text; None in checkpoints of earlier versions.
    """

    step: int
    seconds: float
    skipped: int
    rolled_back: int
    early_stopping: EarlyStopping
    batches: dict[str, int]
    settings: TrainSettings
    held_out: int | None = None

    def write(self, folder: Path) -> None:
        """Write `run.json` into the folder of a checkpoint."""
        (folder / FILE).write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")

    @classmethod
    def read(cls, checkpoint: Path) -> "TrainerState":
        """Read `run.json` from the folder of a checkpoint.

        Raises:
            LiquidError: the file cannot be read, or another version of liquidlm wrote it.
        """
        file = checkpoint / FILE
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
            if "rounds" in found:  # its name in earlier versions
                found["early_stopping"] = found.pop("rounds")
            given = {
                "early_stopping": EarlyStopping(**found["early_stopping"]),
                "settings": TrainSettings(**found["settings"]),
            }
            return cls(**{**found, **given})
        except OSError as error:
            raise LiquidError(f"{file} cannot be read: {error.strerror or error}") from error
        except (KeyError, TypeError, ValueError) as error:
            what = f"{error} is missing" if isinstance(error, KeyError) else first_line(error)
            raise LiquidError(
                f"{checkpoint} was written by another version of liquidlm ({what}): continue with that"
                " version, or start a new run"
            ) from error
