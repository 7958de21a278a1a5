"""How far a run has come: the numbers that a checkpoint keeps beside its tensors, in `run.json`."""

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
    """How the held-out text has fared: its best bits per byte, when, and the rounds since."""

    best: float = math.inf
    best_step: int = 0
    worse: int = 0

    def add(self, bits: float, step: int) -> None:
        if bits < self.best:
            self.best, self.best_step, self.worse = bits, step, 0
        else:
            self.worse += 1


@plain_errors
@dataclass(config=STRICT)
class TrainerState:
    """Where a run stands.

    Attributes:
        step, seconds: taken so far.
        skipped, rolled_back: steps in a row that were not finite, and returns to a checkpoint in a row.
        rounds: of held-out text.
        batches: where in the text; see `StreamBatches.state_dict`.
        settings: of the run.
        held_out: a checksum of the held-out text; earlier versions kept none.
    """

    step: int
    seconds: float
    skipped: int
    rolled_back: int
    rounds: EarlyStopping
    batches: dict[str, int]
    settings: TrainSettings
    held_out: int | None = None

    def write(self, folder: Path) -> None:
        (folder / FILE).write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")

    @classmethod
    def read(cls, checkpoint: Path) -> "TrainerState":
        """That of a checkpoint; LiquidError if it cannot be read, or is not as this version writes it."""
        file = checkpoint / FILE
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
            given = {
                "rounds": EarlyStopping(**found["rounds"]),
                "settings": TrainSettings(**found["settings"]),
            }
            return cls(**{**found, **given})
        except OSError as error:
            raise LiquidError(f"{file} cannot be read: {error.strerror or error}") from error
        except (KeyError, TypeError, ValueError) as error:
            what = f"{error} is missing" if isinstance(error, KeyError) else first_line(error)
            raise LiquidError(
                f"{checkpoint} was written by an earlier version or a later one ({what}): go on with that"
                " version, or start a new run"
            ) from error
