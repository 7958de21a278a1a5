"""The options of `watch --learn`, and the reader that follows them."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from ..errors import LiquidError
from ..inference.defaults import FRESH_RATE, TRAINED_RATE
from ..inference.model_folders import find_folder
from ..inference.reading_file import save_reading
from ..inference.saving import save_model
from ..inference.state_files import fingerprint
from ..inference.surprise import SurpriseReader
from ..ops.native.step import Weights
from ..runtime.folders import make_folder, write_folder
from ..runtime.staging import part_of
from ..runtime.write_errors import writing
from ..text.reading import ReadingOptions
from ..training.fresh import fresh_model
from ..training.learned_state import FRESH, model_of
from ..training.learning_reader import LearningReader
from ..training.online import OnlineLearner
from .watch_source import Frozen

LEARNED = "learned.json"
"""Beside a model that `watch --learn-to` wrote: what it learned. Only such a folder is replaced."""


@dataclass(frozen=True)
class Learning(Frozen):
    """A model that learns as it reads: the options of `watch --learn`.

    Attributes:
        folder: the model that learns; None: a new one.
        budget: tokens learned per token read (see `OnlineLearner`).
        rate: peak learning rate; None: FRESH_RATE for a new model, TRAINED_RATE for another.
        to: folder that the model is written to at the end; None: nowhere.
    """

    budget: float = 1.0
    rate: float | None = None
    to: Path | None = None

    @property
    def needs_lines(self) -> bool:  # noqa: D102 - of `Frozen`
        return self.folder is None

    @property
    def peak(self) -> float:
        """The peak learning rate."""
        usual = FRESH_RATE if self.folder is None else TRAINED_RATE
        return usual if self.rate is None else self.rate

    def check(self) -> None:
        """Check the folder to write to, before anything is read.

        Raises:
            LiquidError: it is the model's own, is not one that this command writes, or cannot be written.
        """
        if self.to is None:
            return
        if self.to.exists() and not self.to.is_dir():
            raise LiquidError(f"--learn-to {self.to} is a file: give a new folder")
        if self.folder is not None and self.to.exists() and self.to.samefile(find_folder(self.folder)):
            raise LiquidError(f"--learn-to {self.to} is the folder of the model itself: give a new folder")
        with writing(self.to):
            if self.to.is_dir() and any(self.to.iterdir()) and not (self.to / LEARNED).exists():
                raise LiquidError(
                    f"--learn-to {self.to} has files that `watch --learn-to` did not write: give a new folder"
                )
            make_folder(self.to.parent)
            with part_of(self.to.absolute()):
                pass

    def begin(
        self,
        first: bytes,
        device: torch.device,
        *,
        alarms: float,
        weights: Weights,
        options: ReadingOptions,
    ) -> LearningReader:
        """A reader at the beginning of a log. A new model takes its scales of time from the first lines."""
        if self.folder is None:
            model, tokenizer = fresh_model(first, options, device)
            origin = FRESH
        else:
            model, tokenizer = self._model(device)
            origin = fingerprint(model)
        learner = OnlineLearner(model, self.peak, self.budget)
        return LearningReader(tokenizer, learner, origin, alarms=alarms, weights=weights, options=options)

    def go_on(
        self,
        state: Path,
        device: torch.device,
        *,
        alarms: float,
        weights: Weights,
        options: ReadingOptions | None,
    ) -> LearningReader:
        """A reader that goes on from a state file; see `LearningReader.load`."""
        model, tokenizer = model_of(state, device) if self.folder is None else self._model(device)
        return LearningReader.load(
            state,
            model,
            tokenizer,
            alarms=alarms,
            weights=weights,
            options=options,
            rate=self.peak,
            budget=self.budget,
        )

    def end(self, reader: SurpriseReader) -> None:
        """Say what was learned, and write the model.

        Raises:
            LiquidError: it cannot be written.
        """
        assert isinstance(reader, LearningReader)
        learner = reader.learner
        print(f"learned {learner.learned:,} tokens in {learner.updates:,} updates", file=sys.stderr)
        if self.to is not None:
            write_folder(self.to, lambda part: self._write(part, reader))
            print(f"the model is in {self.to}", file=sys.stderr)

    def _write(self, folder: Path, reader: LearningReader) -> None:
        from ..model.pretrained import LiquidTextGenerationModel  # takes seconds

        model = LiquidTextGenerationModel(reader.model.config)
        model.load_state_dict(reader.model.state_dict())
        save_model(folder, model, reader.tokenizer)
        save_reading(folder, reader.position.options)
        learned = {"from": self.folder, "updates": reader.learner.updates, "tokens": reader.learner.learned}
        (folder / LEARNED).write_text(json.dumps(learned), encoding="utf-8")
