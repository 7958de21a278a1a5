"""A text without end, line by line ▶ how surprising each line is, in constant memory."""

import codecs
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from ..errors import LiquidError
from ..model.folded import FoldedEmbedding
from ..model.language_model import LiquidTextGenerationModel
from ..nn.state import LiquidCache
from ..nn.timestamps import next_gaps
from ..text.clocks import find_stamp
from ..text.tokenizer import LEDTokenizerWrapper
from .defaults import THRESHOLD
from .state_files import WATCH, load, save

LONGEST = 16_384
"""A line of more characters comes in parts of so many."""
CHUNK = 2048
"""Tokens of a pass of the model."""
LATE = 60.0
"""Seconds by which a line may come late; a time further back is that of a clock set anew."""
MEMORY = 10_000
"""Lines over which what is usual is forgotten."""
WARM_UP = 100
"""Lines at the beginning that do not stand out, whatever they are."""
LEAST = 1e-6
"""Smaller chances of a gap are float32's rounding."""
ROWS = 256
"""Tokens whose logits exist at a time."""
LN2 = math.log(2)
UNTIMED = 100
"""Lines without a time that a log may begin with."""


class Piece(NamedTuple):
    """A line, or a part of a very long one: whether the line begins and ends with it."""

    text: str
    begins: bool = True
    ends: bool = True


class LineCutter:
    """Bytes as they come ▶ lines without their line break; what is no UTF-8 is replaced (U+FFFD).

    The same however the bytes are divided. A line of more than LONGEST characters is cut into parts.
    """

    def __init__(self):
        self._utf8 = codecs.getincrementaldecoder("utf-8-sig")("replace")
        self._rest, self._begins = "", True

    def push(self, data: bytes, final: bool = False) -> list[Piece]:
        """The lines, and parts of lines, that are complete with `data`; all that is left if it is `final`."""
        *lines, self._rest = (self._rest + self._utf8.decode(data, final)).split("\n")
        pieces = [piece for line in lines for piece in self._cut(line, ends=True)]
        if final and (self._rest or not self._begins):
            lines, self._rest = [self._rest], ""
            return pieces + self._cut(lines[0], ends=True)
        return pieces + self._cut(self._rest, ends=False)

    def _cut(self, line: str, ends: bool) -> list[Piece]:
        pieces = []
        while len(line) > LONGEST:
            pieces.append(Piece(line[:LONGEST], self._begins, False))
            line, self._begins = line[LONGEST:], False
        if ends:
            pieces.append(Piece(line, self._begins, True))
            self._begins = True
        else:
            self._rest = line
        return pieces


@dataclass
class Place:
    """Where in a text a reader stands, beside the state of its model: a few numbers, fit for JSON.

    Attributes:
        pending: the last token, which is not read before the next one is there to be foretold.
        time: of that token; None before the first, and without times.
        begun: whether there was a line.
        kind: which of `timed.STAMPS` the text's lines begin with.
        ahead: what is added to the lines' times, since the clock was set anew.
        empty: whether the event has no text yet.
        blank: empty lines held back: they count if the event goes on after them, as in training.
    """

    pending: int
    time: float | None = None
    begun: bool = False
    kind: int | None = None
    ahead: float = 0.0
    empty: bool = True
    blank: int = 0
    untimed: int = 0

    def put(self, piece: Piece, timed: bool) -> str:
        """What a line adds to the text that the model reads; the place is moved there.

        Raises:
            LiquidError: a text with times has none in its first UNTIMED lines.
        """
        if not timed:
            begun, self.begun = self.begun, True
            return f"\n{piece.text}" if piece.begins and begun else piece.text
        line = piece.text.rstrip("\r\n") if piece.ends else piece.text
        found = find_stamp(line, self.kind) if piece.begins else None
        if found is not None:
            begun, self.begun = self.begun, True
            self.kind, self.time = found.kind, self._now(found.time)
            text, self.blank = line[found.end :], 0
            self.empty = not text
            return f"\n{text}" if begun else text
        if not self.begun:
            self.untimed += bool(line.strip())
            if self.untimed > UNTIMED:
                raise _no_times()
            return ""
        if not line:
            self.blank = min(self.blank + 1, LONGEST)
            return ""
        before = "\n" * (self.blank + 1) if piece.begins and not self.empty else ""
        self.empty, self.blank = False, 0
        return before + line

    def _now(self, time: float) -> float:
        """A line's time on the model's clock, which never goes back."""
        if self.time is None:
            return time
        if time + self.ahead < self.time - LATE:
            self.ahead = self.time - time
        return max(time + self.ahead, self.time)


@dataclass
class Usual:
    """What scores are usually: their mean and variance, forgotten exponentially.

    m ← m + w (s − m),  v ← (1 − w)(v + w (s − m)²),  w = max(1/n, 1/MEMORY), over the lines so far.
    """

    lines: int = 0
    mean: float = 0.0
    variance: float = 0.0

    def exceeded(self, score: float, threshold: float) -> bool:
        """Whether `score` is more than `threshold` deviations over the mean of those before, which it then
        joins; never in the first WARM_UP lines. What stands out counts as just not doing so, lest a run of
        such lines became the usual."""
        limit = self.mean + threshold * math.sqrt(self.variance)
        exceeds = self.lines >= WARM_UP and score > limit
        self.lines += 1
        weight = max(1 / self.lines, 1 / MEMORY)
        beside = (min(score, limit) if exceeds else score) - self.mean
        self.mean += weight * beside
        self.variance = (1 - weight) * (self.variance + weight * beside * beside)
        return exceeds


class Line(NamedTuple):
    """A line, or a part of a very long one, and what a model made of it.

    Attributes:
        text: as it came, without its line break.
        time: in seconds, when it happened, on the model's clock; None without times.
        bits: −log₂ p of its tokens, given all before.
        bytes: of the text that these tokens are; 0 where nothing was read (an empty line among times).
        when: −ln p of the gaps before its tokens, per second; None without times.
        excess: max over its tokens of −log₂ p − H, with H the mean of −log₂ p under p: bits by which a token
            was beyond what the model foresaw of it; 0 where nothing was read.
        gap_bits: −log₂ of the chance of a gap so short or so long, see `Costs`: of the tokens' gaps the least
            likely; None without times.
        score: max(0, excess, gap_bits). A random number costs many bits, and no token of it more than
            foreseen.
        stands_out: whether the score is far from what is usual.
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


class Costs(NamedTuple):
    """Of tokens, given all before each.

    Attributes:
        nats: s = −ln p.
        expected: of s, under the model's own distribution, which is its entropy.
        when: −ln p of the gap before it, per unit of the times; 0 without times.
        tail: −log₂ of the chance of a gap so short or so long, 2 min(P(Δ ≤ gap), P(Δ ≥ gap)), at most 1; 0
            without times.
    """

    nats: Float64[np.ndarray, " n"]
    expected: Float64[np.ndarray, " n"]
    when: Float64[np.ndarray, " n"]
    tail: Float64[np.ndarray, " n"]


class SurpriseReader:
    """A text without end ▶ the surprise of its lines, in constant memory.

    In the precision of the model's weights: under autocast torch keeps compiled bfloat16 products for every
    number of tokens, which fills hundreds of megabytes.

    The tokens and times are those that `train` and `eval` have of the same text, but for runs of empty lines,
    of which a BPE that sees them together may make one token: here each line is encoded as it comes. A line
    is its line break, the one before it, and what it says; among times, empty lines count once something of
    the same event comes after them, and a line's stamp is its time, not its text. A time that goes back by
    up to LATE seconds is taken as the one before; one further back (a clock set anew, a year over, a mistaken
    line before it) begins at the one before, and gaps go on from there.

    Args:
        model: in evaluation mode from now on; one with a time head reads lines with times.
        state: of the model, to go on from; it is brought up to date in place. None: nothing was read.
        place, usual: what else is to be known to go on.
        threshold: a line stands out whose score is so many deviations over the mean.

    Attributes:
        state, place, usual: after all lines so far.

    Raises:
        LiquidError: a threshold that is not positive.
    """

    def __init__(
        self,
        model: LiquidTextGenerationModel,
        tokenizer: LEDTokenizerWrapper,
        state: LiquidCache | None = None,
        place: Place | None = None,
        usual: Usual | None = None,
        *,
        threshold: float = THRESHOLD,
    ):
        if not threshold > 0:
            raise LiquidError(f"threshold must be over 0, not {threshold}")
        self.model, self.tokenizer = model.eval(), tokenizer
        self.state = model.new_state() if state is None else state
        self._table = FoldedEmbedding(model)
        self.place = Place(tokenizer.bos_token_id) if place is None else place
        self.usual = Usual() if usual is None else usual
        self.threshold, self.timed = threshold, model.time_head is not None
        self._cutter = LineCutter()

    def push(self, data: bytes) -> list[Line]:
        """The lines that end in `data`, UTF-8, wherever it was cut; memory grows with its size alone.

        Raises:
            LiquidError: the model lives in times, and the text has none.
        """
        return self._read(self._cutter.push(data))

    def end(self) -> list[Line]:
        """The last line, if it had no line break; as `push`."""
        lines = self._read(self._cutter.push(b"", final=True))
        if self.place.untimed and not self.place.begun:
            raise _no_times()
        return lines

    def save(self, path: str | Path) -> None:
        """Write state, place and what is usual, atomically, for `load`; a line without its end is not kept.

        Raises:
            LiquidError: the file cannot be written.
        """
        watched = json.dumps({"place": asdict(self.place), "usual": asdict(self.usual)})
        save(path, self.state, WATCH, self.model, self.tokenizer, watched=watched)

    @classmethod
    def load(
        cls,
        path: str | Path,
        model: LiquidTextGenerationModel,
        tokenizer: LEDTokenizerWrapper,
        *,
        threshold: float = THRESHOLD,
    ) -> "SurpriseReader":
        """A reader that goes on where `save` was called.

        Raises:
            LiquidError: no such file, or a damaged one, or of another model, or of a text that was written.
        """
        state, metadata = load(path, WATCH, model, tokenizer)
        try:
            watched = json.loads(metadata["watched"])
            place, usual = Place(**watched["place"]), Usual(**watched["usual"])
        except (KeyError, TypeError, ValueError) as error:
            raise LiquidError(f"{path} is no readable liquid state (damaged)") from error
        return cls(model, tokenizer, state, place, usual, threshold=threshold)

    def _read(self, pieces: Sequence[Piece]) -> list[Line]:
        """All of them, or, where something ends it before, none: place and state stay together."""
        before = self.state.copy(), replace(self.place), replace(self.usual)
        try:
            return self._lines(pieces)
        except BaseException:
            self.state, self.place, self.usual = before
            raise

    def _lines(self, pieces: Sequence[Piece]) -> list[Line]:
        time, texts, times = self.place.time, [], []
        for piece in pieces:
            texts.append(self.place.put(piece, self.timed))
            times.append(self.place.time)
        runs = self.tokenizer.encode_all(texts)
        lengths = np.array([len(run) for run in runs], dtype=np.int64)
        ids = np.concatenate([[self.place.pending], *runs]).astype(np.int64)
        clock = None
        if self.timed:
            first = next((t for t in (time, *times) if t is not None), 0.0)
            own = [first if t is None else t for t in times]
            clock = np.concatenate([[first], np.repeat(own, lengths)])
        costs = self._costs(ids, clock)
        self.place.pending = int(ids[-1])
        ends = np.cumsum(lengths)
        lines = []
        for piece, text, t, begin, end in zip(pieces, texts, times, ends - lengths, ends, strict=True):
            mine = Costs(*(one[begin:end] for one in costs))
            excess = float(((mine.nats - mine.expected) / LN2).max(initial=-math.inf)) if end > begin else 0.0
            gap_bits = float(mine.tail.max(initial=0.0)) if self.timed else None
            score = max(0.0, excess, gap_bits or 0.0)
            lines.append(
                Line(
                    text=piece.text,
                    time=t,
                    bits=float(mine.nats.sum() / LN2),
                    bytes=len(text.encode()),
                    when=float(mine.when.sum()) if self.timed else None,
                    excess=excess,
                    gap_bits=gap_bits,
                    score=score,
                    stands_out=bool(end > begin) and self.usual.exceeded(score, self.threshold),
                )
            )
        return lines

    def _costs(
        self, ids: Int64[np.ndarray, " n_plus_1"], times: Float64[np.ndarray, " n_plus_1"] | None
    ) -> Costs:
        """Of all tokens but the first; all but the last are read into the state."""
        found = [np.zeros((4, 0))]
        for first in range(0, len(ids) - 1, CHUNK):
            part = slice(first, first + CHUNK + 1)
            clock = None if times is None else torch.from_numpy(times[part]).to(self.model.device)
            with torch.inference_mode():
                pass_ = self._pass(torch.from_numpy(ids[part]).to(self.model.device), clock)
            found.append(pass_.double().cpu().numpy())
        return Costs(*np.concatenate(found, 1))

    def _pass(
        self, ids: Int64[Tensor, " n_plus_1"], times: Float64[Tensor, " n_plus_1"] | None
    ) -> Float[Tensor, "4 n"]:
        """The same of one pass, in the order of `Costs`."""
        output: Any = self.model.model(
            ids[None, :-1],
            timestamps=None if times is None else times[None, :-1],
            past_key_values=self.state,
            use_cache=True,
            table=self._table,
        )
        following, features = ids[1:], output.last_hidden_state[0]
        what = [
            _of_distribution(self.model.output_proj(some), goal)
            for some, goal in zip(features.split(ROWS), following.split(ROWS), strict=True)
        ]
        when = features.new_zeros(2, len(following), dtype=torch.float32)
        if times is not None:
            when = self._when(output.features[0], following, times)  # times: there is a time head
        return torch.cat([torch.cat(what, 1), when])

    def _when(
        self,
        features: Float[Tensor, "n h"],
        following: Int64[Tensor, " n"],
        times: Float64[Tensor, " n_plus_1"],
    ) -> Float[Tensor, "2 n"]:
        scale = self.model.config.time_scale
        counted = torch.ones_like(following, dtype=torch.bool)[None]
        gap = next_gaps(times[None, :-1], times[None, 1:], counted, scale)[0]
        foretold = self.model.next_gap(features, following)
        nats = -foretold.log_prob(gap) + (gap > 0) * math.log(scale)
        tail = -(2 * torch.minimum(foretold.cdf(gap), foretold.survival(gap))).clamp(LEAST, 1).log2()
        return torch.stack([nats, tail])


def _of_distribution(logits: Float[Tensor, "n v"], goal: Int64[Tensor, " n"]) -> Float[Tensor, "2 n"]:
    """−ln p of what came, and the mean of −ln p under p."""
    log_p = logits.float().log_softmax(-1)
    return torch.stack([-log_p.gather(1, goal[:, None])[:, 0], -(log_p.exp() * log_p).sum(-1)])


def _no_times() -> LiquidError:
    return LiquidError(
        "the model lives in times, and no line begins with one, such as 2026-01-31T12:00:00, [00:12:31] or"
        " 1700000000.5"
    )
