"""The surprise of a log's lines, as they arrive, in constant memory."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from ..errors import LiquidError
from ..model.language_model import LiquidLanguageModel
from ..model.step import LiquidStep
from ..nn.state import LiquidCache
from ..ops.native.step import Weights
from ..text.reading import ReadingOptions
from ..text.tokenizer import LEDTokenizerWrapper
from .defaults import THRESHOLD
from .log_lines import LineCutter, LinePart, LogPosition, no_times
from .score_statistics import ScoreStatistics
from .state_files import WATCH, load, save
from .token_costs import TokenCosts, read_costs

LN2 = math.log(2)


class Line(NamedTuple):
    """A line, or a part of a very long line, and how surprising the model finds it.

    Attributes:
        text: as it arrived, without its line break.
        time: of the line on the model's clock, in seconds; None without times.
        bits: Σ −log₂ p over the line's tokens, given all tokens before.
        bytes: of the text of these tokens; 0 where nothing was read (an empty line of a log with times).
        when: Σ −ln p of the gaps before its tokens, per second; None without times.
        excess: max over its tokens of −log₂ p − H, where H is the entropy of the model's distribution: how
            many bits a token costs beyond what the model expected; 0 where nothing was read.
        gap_bits: max over its tokens of −log₂ of the probability of a gap at least as short or as long (see
            `TokenCosts.tail`); None without times.
        score: max(0, excess, gap_bits). A random number costs many bits, but the model expects that, so
            that its excess is small.
        stands_out: whether the score is far above the scores of the lines before.
    """

    text: str
    time: float | None
    bits: float
    bytes: int
    when: float | None
    excess: float
    gap_bits: float | None
    score: float
    stands_out: bool


class SurpriseReader:
    """Reads a log of any length and gives the surprise of each line, in constant memory.

    Tokens and times are those that `train` and `eval` see in the same text, with one exception: a BPE
    tokenizer may join a run of empty lines into one token, while this class encodes each line alone. A line
    consists of the line break before it and its text. In a log with times, the time at the beginning of a
    line is not part of its text, and empty lines count if text of the same event follows them. A time that
    goes back is taken as in training (see `text.timeline`).

    The reader copies the model's weights (`LiquidStep`); `copy_weights` copies them again after a change.

    Args:
        model: put into evaluation mode. A model with a time head reads lines with times.
        tokenizer: the model's tokenizer.
        state: state of the model to go on from; None begins a new one.
        position: position in the log that belongs to the state; None is the beginning.
        statistics: mean and variance of the scores so far; None begins new ones.
        threshold: a line stands out if its score is this many standard deviations above the mean.
        weights: the type of the weights on a CPU (`LiquidStep`).
        options: how the log is read, if there is no position; None: the defaults.

    Attributes:
        state, position, statistics: after all lines so far.
        timed: whether the lines have times.

    Raises:
        LiquidError: the threshold is not positive, or late lines are to be sorted.

    Example:
        >>> from liquidlm.inference.saving import load_model
        >>> reader = SurpriseReader(*load_model("stories"))
        >>> one, two = reader.push(b"Once upon a time there was a girl.\\nzxqj 90210\\n")
        >>> one.bits / one.bytes < two.bits / two.bytes
        True
    """

    def __init__(
        self,
        model: LiquidLanguageModel,
        tokenizer: LEDTokenizerWrapper,
        state: LiquidCache | None = None,
        position: LogPosition | None = None,
        statistics: ScoreStatistics | None = None,
        *,
        threshold: float = THRESHOLD,
        weights: Weights = "float32",
        options: ReadingOptions | None = None,
    ):
        if not threshold > 0:
            raise LiquidError(f"threshold must be greater than 0, not {threshold}")
        self.model, self.tokenizer = model.eval(), tokenizer
        self.weights: Weights = weights
        self.state = model.new_state() if state is None else state
        options = options or ReadingOptions()
        if options.late == "sort":
            raise LiquidError(
                "--late sort needs a whole file, and watch reads lines as they come: use --late clamp or"
                " error"
            )
        self.position = LogPosition(tokenizer.bos_token_id, options) if position is None else position
        self.statistics = ScoreStatistics() if statistics is None else statistics
        self.threshold, self.timed = threshold, model.time_head is not None
        self._cutter = LineCutter(self.position.options.encoding)
        self.copy_weights()

    def copy_weights(self) -> None:
        """Take the weights that the model has now."""
        self._step = LiquidStep(self.model, weights=self.weights)

    def push(self, data: bytes) -> list[Line]:
        """The lines that end in `data`. Memory grows with the size of `data` only.

        Args:
            data: the next bytes of the log, in UTF-8, cut anywhere.

        Raises:
            LiquidError: the model needs times, and the log has none.
        """
        return self._read(self._cutter.push(data))

    def end(self) -> list[Line]:
        """The last line, if it has no line break.

        Raises:
            LiquidError: the model needs times, and the log has none.
        """
        lines = self._read(self._cutter.push(b"", final=True))
        if self.position.untimed and not self.position.begun:
            raise no_times()
        return lines

    def save(self, path: str | Path) -> None:
        """Write state, position and statistics to a file for `load`, all or nothing.

        A line that has not ended is not part of the file.

        Raises:
            LiquidError: the file cannot be written.
        """
        watched = json.dumps({"place": self.position.as_dict(), "usual": asdict(self.statistics)})
        save(path, self.state, WATCH, self.model, self.tokenizer, watched=watched)

    @classmethod
    def load(
        cls,
        path: str | Path,
        model: LiquidLanguageModel,
        tokenizer: LEDTokenizerWrapper,
        *,
        threshold: float = THRESHOLD,
        weights: Weights = "float32",
        options: ReadingOptions | None = None,
    ) -> "SurpriseReader":
        """A reader that goes on where `save` was called.

        Args:
            path: file that `save` wrote.
            model: the model that it was written with.
            tokenizer: its tokenizer.
            threshold, weights: see the class.
            options: how the log is read; None: as before.

        Raises:
            LiquidError: the file is missing, damaged, of another model, or of `generate --save-state`.
        """
        state, metadata = load(path, WATCH, model, tokenizer)
        try:
            watched = json.loads(metadata["watched"])
            position = LogPosition.restore(watched["place"], options)
            statistics = ScoreStatistics(**watched["usual"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise LiquidError(f"{path} is not a readable liquid state (damaged)") from error
        return cls(model, tokenizer, state, position, statistics, threshold=threshold, weights=weights)

    def _read(self, parts: Sequence[LinePart]) -> list[Line]:
        """All lines, or none if an error or a signal comes in between: state and position stay together."""
        before, place = (self.state.copy(), replace(self.statistics)), self.position.as_dict()
        try:
            return self._lines(parts)
        except BaseException:
            self.state, self.statistics = before
            self.position = LogPosition.restore(place)
            raise

    def _lines(self, parts: Sequence[LinePart]) -> list[Line]:
        if self.timed:
            self.position.settle(parts)
        time, texts, times = self.position.time, [], []
        for part in parts:
            texts.append(self.position.put(part, self.timed))
            times.append(self.position.time)
        runs = self.tokenizer.encode_all(texts)
        lengths = np.array([len(run) for run in runs], dtype=np.int64)
        ids = np.concatenate([[self.position.pending], *runs]).astype(np.int64)
        clock = None
        if self.timed:
            first = next((t for t in (time, *times) if t is not None), 0.0)
            own = [first if t is None else t for t in times]
            clock = np.concatenate([[first], np.repeat(own, lengths)])
        costs = self._costs(ids, clock)
        self.position.pending = int(ids[-1])
        ends = np.cumsum(lengths)
        return [
            self._line(part, text, t, TokenCosts(*(one[begin:end] for one in costs)))
            for part, text, t, begin, end in zip(parts, texts, times, ends - lengths, ends, strict=True)
        ]

    def _line(self, part: LinePart, text: str, time: float | None, costs: TokenCosts) -> Line:
        """The line's figures from the costs of its tokens; adds its score to the statistics."""
        was_read = costs.nats.size > 0
        excess = float(((costs.nats - costs.expected) / LN2).max()) if was_read else 0.0
        gap_bits = float(costs.tail.max(initial=0.0)) if self.timed else None
        score = max(0.0, excess, gap_bits or 0.0)
        return Line(
            text=part.text,
            time=time,
            bits=float(costs.nats.sum() / LN2),
            bytes=len(text.encode()),
            when=float(costs.when.sum()) if self.timed else None,
            excess=excess,
            gap_bits=gap_bits,
            score=score,
            stands_out=was_read and self.statistics.exceeded(score, self.threshold),
        )

    def _costs(
        self, ids: Int64[np.ndarray, " n_plus_1"], times: Float64[np.ndarray, " n_plus_1"] | None
    ) -> TokenCosts:
        """Costs of all tokens but the first; all but the last are read into the state."""
        return read_costs(self._step, ids, times, self.state)
