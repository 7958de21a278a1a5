"""A reader of logs whose model learns from each line, after it has said how surprising it is."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int64

from ..errors import LiquidError
from ..inference.defaults import ALARMS, FRESH_RATE
from ..inference.line_cutter import LinePart
from ..inference.log_lines import LogPosition
from ..inference.rarity import Rarity
from ..inference.state_files import fingerprint, vocabulary
from ..inference.surprise import Line, SurpriseReader
from ..inference.token_costs import TokenCosts
from ..model.language_model import LiquidLanguageModel
from ..nn.state import LiquidCache
from ..ops.native.step import Weights
from ..text.reading import ReadingOptions
from ..text.tokenizer import LEDTokenizerWrapper
from . import learned_state
from .learned_state import FRESH, damaged
from .online import OnlineLearner, named

STATE, LEARNED = "state.", "learned."
"""What the names of tensors in a file begin with: of the reader's state, and of the learner."""


class LearningReader(SurpriseReader):
    """`SurpriseReader` of a model that learns as it reads.

    When the lines so far fill a block of tokens, the model learns the block, and only then reads the next
    line. So no line is scored with weights that have seen it.

    Args:
        tokenizer: of the learner's model.
        learner: of the model, which it changes.
        origin: what the model was before it learned: its `fingerprint`, or "" if it was random.
        state, position, rarity, alarms, weights, options: see `SurpriseReader`.

    Attributes:
        learner, origin: as given.

    Example:
        >>> from liquidlm.training.fresh import fresh_model
        >>> data = b"pump 1 is on\\npump 2 is off\\n" * 60
        >>> model, tokenizer = fresh_model(data, ReadingOptions())
        >>> reader = LearningReader(tokenizer, OnlineLearner(model, rate=0.02))
        >>> len(reader.push(data)), reader.learner.updates
        (120, 3)
    """

    def __init__(
        self,
        tokenizer: LEDTokenizerWrapper,
        learner: OnlineLearner,
        origin: str = FRESH,
        state: LiquidCache | None = None,
        position: LogPosition | None = None,
        rarity: Rarity | None = None,
        *,
        alarms: float = ALARMS,
        weights: Weights = "float32",
        options: ReadingOptions | None = None,
    ):
        self.learner, self.origin = learner, origin
        super().__init__(
            learner.model,
            tokenizer,
            state,
            position,
            rarity,
            alarms=alarms,
            weights=weights,
            options=options,
        )

    def save(self, path: str | Path) -> None:
        """Write all that is needed to go on to a file for `load`, all or nothing.

        Raises:
            LiquidError: the file cannot be written.
        """
        kept = {
            "seen": self.state.get_seq_length(),
            "origin": self.origin,
            "tokenizer": vocabulary(self.tokenizer),
            "config": self.model.config.to_json_string(use_diff=False),
            "watched": {"place": self.position.as_dict(), "usual": self.rarity.as_dict()},
            "learner": self.learner.numbers(),
        }
        learned = {f"{LEARNED}{name}": value for name, value in self.learner.tensors().items()}
        state = {f"{STATE}{name}": value for name, value in self.state.tensors().items()}
        learned_state.write(path, kept, state | learned)

    @classmethod
    def load(
        cls,
        path: str | Path,
        model: LiquidLanguageModel,
        tokenizer: LEDTokenizerWrapper,
        *,
        alarms: float = ALARMS,
        weights: Weights = "float32",
        options: ReadingOptions | None = None,
        rate: float = FRESH_RATE,
        budget: float = 1.0,
    ) -> "LearningReader":
        """A reader that goes on where `save` was called.

        Args:
            path: file that `save` wrote.
            model: the model that the reading began with, or `model_of` the file. It gets the file's weights.
            tokenizer: its tokenizer.
            alarms, weights: see `SurpriseReader`.
            options: how the log is read; None: as before.
            rate, budget: see `OnlineLearner`.

        Raises:
            LiquidError: the file is missing, damaged, or of another model.
        """
        kept, tensors = learned_state.read(path)
        learner = OnlineLearner(model, rate, budget)
        try:
            same = kept["origin"] in (FRESH, fingerprint(model))
            if not same or kept["tokenizer"] != vocabulary(tokenizer):
                raise LiquidError(
                    f"{path} has learned from another model: name the folder that it began with, or begin a"
                    " new state"
                )
            position = LogPosition.restore(kept["watched"]["place"], options)
            rarity = Rarity.restore(kept["watched"]["usual"])
            learner.restore(named(tensors, LEARNED), kept["learner"])
            state = LiquidCache(len(model.blocks)).load_tensors(named(tensors, STATE), kept["seen"])
        except LiquidError:
            raise
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise damaged(path) from error
        return cls(
            tokenizer, learner, kept["origin"], state, position, rarity, alarms=alarms, weights=weights
        )

    def _read(self, parts: Sequence[LinePart], final: bool = False) -> list[Line]:
        self.learner.mark()
        try:
            return super()._read(parts, final)
        except BaseException:
            self.learner.undo()
            self.copy_weights()
            raise

    def _costs_of_lines(
        self,
        ids: Int64[np.ndarray, " n_plus_1"],
        times: Float64[np.ndarray, " n_plus_1"] | None,
        ends: Int64[np.ndarray, " lines"],
    ) -> TokenCosts:
        if len(ids) > 1 and not self.learner.begun:
            self.learner.add(ids[:1], None if times is None else times[:1])
        found, begin = [self._costs(ids[:1], None)], 0
        for end in ends.tolist():
            if end - begin < self.learner.missing and end != ends[-1]:
                continue
            part = slice(begin, end + 1)
            clock = None if times is None else times[part]
            found.append(self._costs(ids[part], clock))
            self.learner.add(ids[part][1:], None if clock is None else clock[1:])
            begin = end
            if self._learn():
                self.copy_weights()
        return TokenCosts(*(np.concatenate(parts) for parts in zip(*found, strict=True)))

    def _learn(self) -> bool:
        """Learn the blocks that are whole; returns whether the weights have changed."""
        changed = False
        while self.learner.missing <= 0:
            changed |= self.learner.learn()
        return changed
