"""The surprise of a log's lines, as they arrive, in constant memory."""

import json
import time as clock
from collections.abc import Sequence
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
from .defaults import ALARMS
from .line_cutter import LineCutter, LinePart
from .log_lines import LogPosition, no_times
from .rarity import NOTHING, Features, Rarity, Verdict
from .state_files import load, save
from .state_places import WATCH
from .token_costs import LineCosts, TokenCosts, line_costs, read_costs
from .watch_options import check_alarms, check_late

LIVE = 120.0
"""A log is read as it is written if its last line came at most this many seconds after its time."""


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
        score: −log₂ of the share of lines that are as rare as this one (see `Rarity`).
        reason: the way in which it is rarest, in words: "burst", "slow: 30417, usually 8".
        kind: its text with numbers masked.
        stands_out: whether it is worth an alarm.
    """

    text: str
    time: float | None
    bits: float
    bytes: int
    when: float | None
    excess: float
    gap_bits: float | None
    score: float
    reason: str
    kind: str
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
        rarity: what is usual in the log so far; None begins with nothing.
        alarms: the number of lines that are marked in a usual day (see `Rarity`).
        weights: the type of the weights on a CPU (`LiquidStep`).
        options: how the log is read, if there is no position; None: the defaults, and wrong bytes replaced.

    Attributes:
        state, position, rarity: after all lines so far.
        timed: whether the lines have times.

    Raises:
        LiquidError: alarms is not positive, or late lines are to be sorted.

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
        rarity: Rarity | None = None,
        *,
        alarms: float = ALARMS,
        weights: Weights = "float32",
        options: ReadingOptions | None = None,
    ):
        check_alarms(alarms)
        self.model, self.tokenizer = model.eval(), tokenizer
        self.weights: Weights = weights
        self.state = model.new_state() if state is None else state
        options = options or ReadingOptions(errors="replace")
        check_late(options)
        self.position = LogPosition(tokenizer.bos_token_id, options) if position is None else position
        self.rarity = Rarity() if rarity is None else rarity
        self.rarity.alarms, self.timed = alarms, model.time_head is not None
        self._arrived, self._live = 0.0, False
        self._cutter = LineCutter(self.position.options.encoding, self.position.options.errors)
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
        lines = self._read(self._cutter.push(data))
        if lines:
            self._arrived = clock.time()
            written = self.position.time
            self._live = written is not None and abs(self._arrived - written) < LIVE
        return lines

    def end(self) -> list[Line]:
        """The last line, if it has no line break.

        Raises:
            LiquidError: the model needs times, and the log has none.
        """
        lines = self._read(self._cutter.push(b"", final=True), final=True)
        if self.position.untimed and not self.position.begun:
            raise no_times()
        return lines

    def notes(self) -> dict[str, str]:
        """How the log is read, and what was changed in it, in words."""
        wrong = "it has wrong bytes: � stands in their place (--encoding names another encoding)"
        return {**self.position.notes(), **({"bytes": wrong} if self._cutter.wrong else {})}

    def silent(self, wall: float) -> Verdict:
        """Whether no line has come for so long that it is worth an alarm, by the clock of this machine.

        Only in a log whose last line came within LIVE seconds of its own time: another is not read as it is
        written.

        Args:
            wall: seconds since 1970 now.
        """
        time = self.rarity.time
        if time is None or not self._live:
            return NOTHING
        return self.rarity.silent(time + wall - self._arrived)

    def save(self, path: str | Path) -> None:
        """Write state, position and what is usual to a file for `load`, all or nothing.

        A line that has not ended is not part of the file.

        Raises:
            LiquidError: the file cannot be written.
        """
        watched = json.dumps({"place": self.position.as_dict(), "usual": self.rarity.as_dict()})
        save(path, self.state, WATCH, self.model, self.tokenizer, watched=watched)

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
    ) -> "SurpriseReader":
        """A reader that goes on where `save` was called.

        Args:
            path: file that `save` wrote.
            model: the model that it was written with.
            tokenizer: its tokenizer.
            alarms, weights: see the class.
            options: how the log is read; None: as before.

        Raises:
            LiquidError: the file is missing, damaged, of another model, or of `generate --save-state`.
        """
        state, metadata = load(path, WATCH, model, tokenizer)
        try:
            watched = json.loads(metadata["watched"])
            position = LogPosition.restore(watched["place"], options)
            rarity = Rarity.restore(watched["usual"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise LiquidError(f"{path} is not a readable liquid state (damaged)") from error
        return cls(model, tokenizer, state, position, rarity, alarms=alarms, weights=weights)

    def _read(self, parts: Sequence[LinePart], final: bool = False) -> list[Line]:
        """All lines, or none if an error or a signal comes in between: state, position and what is usual stay
        together."""
        before, place, usual = self.state.copy(), self.position.copy(), self.rarity.as_dict()
        try:
            return self._lines(parts, final)
        except BaseException:
            self.state, self.position = before, place
            alarms, self.rarity = self.rarity.alarms, Rarity.restore(usual)
            self.rarity.alarms = alarms
            raise

    def _lines(self, parts: Sequence[LinePart], final: bool) -> list[Line]:
        if self.timed:
            parts = self.position.records(parts, final)
        time, texts, times = self.position.time, [], []
        for part in parts:
            texts.append(self.position.put(part, self.timed))
            times.append(self.position.time)
        runs = self.tokenizer.encode_all(texts)
        lengths = np.array([len(run) for run in runs], dtype=np.int64)
        ids = np.concatenate([[self.position.pending], *runs]).astype(np.int64)
        stamps = None
        if self.timed:
            first = next((t for t in (time, *times) if t is not None), 0.0)
            own = [first if t is None else t for t in times]
            stamps = np.concatenate([[first], np.repeat(own, lengths)])
        ends = np.cumsum(lengths)
        costs = self._costs_of_lines(ids, stamps, ends)
        self.position.pending = int(ids[-1])
        lines = zip(parts, texts, times, line_costs(costs, lengths), lengths > 0, strict=True)
        return [self._line(*line) for line in lines]

    def _line(
        self, part: LinePart, text: str, time: float | None, costs: LineCosts, was_read: np.bool_
    ) -> Line:
        """The line, and how rare it is, from the costs of its tokens."""
        verdict = NOTHING
        if was_read:
            found = Features(costs.bits, costs.excess, costs.early, costs.late)
            verdict = self.rarity.judge(text, time if self.timed else None, found)
        return Line(
            text=part.text,
            time=time,
            bits=costs.bits,
            bytes=len(text.encode()),
            when=costs.when if self.timed else None,
            excess=costs.excess,
            gap_bits=costs.tail if self.timed else None,
            score=verdict.score,
            reason=verdict.reason,
            kind=verdict.kind,
            stands_out=verdict.stands_out,
        )

    def _costs_of_lines(
        self,
        ids: Int64[np.ndarray, " n_plus_1"],
        times: Float64[np.ndarray, " n_plus_1"] | None,
        ends: Int64[np.ndarray, " lines"],
    ) -> TokenCosts:
        """`_costs` of lines, the k-th of which ends with the token ids[ends[k]]."""
        return self._costs(ids, times)

    def _costs(
        self, ids: Int64[np.ndarray, " n_plus_1"], times: Float64[np.ndarray, " n_plus_1"] | None
    ) -> TokenCosts:
        """Costs of all tokens but the first; all but the last are read into the state."""
        return read_costs(self._step, ids, times, self.state)
