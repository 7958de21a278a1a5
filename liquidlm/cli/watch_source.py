"""Where the reader of `watch` comes from: a model that stays as it is, or one that learns."""

from dataclasses import dataclass
from pathlib import Path

import torch

from ..inference.saving import load_language_model
from ..inference.surprise import SurpriseReader
from ..model.language_model import LiquidLanguageModel
from ..ops.native.step import Weights
from ..text.reading import ReadingOptions
from ..text.tokenizer import LEDTokenizerWrapper


@dataclass(frozen=True)
class Frozen:
    """A model that stays as it is.

    Attributes:
        folder: of the model.
        needs_lines: whether `begin` needs the first lines of the log.
    """

    folder: str | None

    @property
    def needs_lines(self) -> bool:  # noqa: D102 - above
        return False

    def check(self) -> None:
        """Check what can be checked before anything is read."""

    def begin(
        self, first: bytes, device: torch.device, *, alarms: float, weights: Weights, options: ReadingOptions
    ) -> SurpriseReader:
        """A reader at the beginning of a log, whose first lines are `first`."""
        model, tokenizer = self._model(device)
        return SurpriseReader(model, tokenizer, alarms=alarms, weights=weights, options=options)

    def go_on(
        self,
        state: Path,
        device: torch.device,
        *,
        alarms: float,
        weights: Weights,
        options: ReadingOptions | None,
    ) -> SurpriseReader:
        """A reader that goes on from a state file."""
        model, tokenizer = self._model(device)
        return SurpriseReader.load(state, model, tokenizer, alarms=alarms, weights=weights, options=options)

    def end(self, reader: SurpriseReader) -> None:
        """Called when the reading is over."""

    def _model(self, device: torch.device) -> tuple[LiquidLanguageModel, LEDTokenizerWrapper]:
        assert self.folder is not None
        return load_language_model(self.folder, device)
