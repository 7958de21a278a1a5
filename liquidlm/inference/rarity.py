"""How rare a line is, in each of the ways in which one can be rare, and which lines are worth an alarm."""

import math
from collections import OrderedDict, deque
from typing import Any, NamedTuple

from .defaults import ALARMS
from .rhythms import ANY, OVERDUE, Overdue, Rhythms
from .tails import FEW, Calibration, Tail
from .templates import numbers, template

WARM_UP = 100
"""The first lines never stand out: what is usual is not known yet."""
DAY = 86_400.0
DAY_OF_LINES = 100_000
"""Lines of a day, where a log has no times."""
MOST = 0.01
"""At most this share of lines stands out, however few a day has."""
KINDS, WINDOW, ALL = 512, 64, 2000
"""Kinds that are kept, values of a number of a kind, and values of bits of all lines."""
OF_BITS = 20.0
"""The bits of a line count when they are this many times rarer than its most surprising token."""
FADING = 0.75
"""What is left of a short gap's weight one line later, in the search for bursts."""
RUN, CROWD = 32, 512
"""Lines of a long burst, and how many spans of that length are kept."""
KEPT = ("lines", "fresh", "first", "time", "_burst", "_inside", "_lost", "_peaks")
"""Simple values of a `Rarity` that its file keeps as they are."""


class Features(NamedTuple):
    """What the model finds of a line.

    Attributes:
        bits: of its text.
        excess: of its most surprising token, in bits.
        early, late: chances of a gap before it at most, and at least, so long; None without times.
    """

    bits: float
    excess: float
    early: float | None
    late: float | None


class Verdict(NamedTuple):
    """How rare a line is.

    Attributes:
        score: −log₂ of the share of lines that are as rare, in bits.
        reason: the way in which it is rarest, in words.
        kind: its text with numbers masked.
        stands_out: whether it is worth an alarm.
    """

    score: float
    reason: str
    kind: str
    stands_out: bool


NOTHING = Verdict(0.0, "", "", False)
"""Of a line that says nothing."""


Judged = tuple[float, str]
"""A score, about −ln of a chance, and what it means in words."""


class _Kind:
    """What is usual in lines of one kind."""

    __slots__ = ("numbers",)

    def __init__(self, found: Any = ()):
        self.numbers = [Tail(WINDOW, 0.1, one) for one in found]


SORTS = {
    "number": 0.08,
    "overdue": 0.08,
    "burst": 0.08,
    "crowd": 0.03,
    "gap": 0.05,
    "rhythm": 0.08,
    "text": 0.6,
}
"""The ways in which a line can be rare, the most telling first, and the part of the alarms of each."""
RUNS = ("burst", "crowd")
"""Those that last for many lines."""
LOST = 1e-3
"""A text so rare makes the model lose its thread: the next line is not judged by the model, if it is of a
known kind."""


class Rarity:
    """What is usual in a log, in constant memory; judges each line by it.

    A line is judged seven times: by its text, its numbers, the gap before it, the gaps before the last few
    lines, the time of the last RUN lines, the time since the last line of its kind, and what should have
    come before it. Each gives a score, about −ln of a chance, and of each the share of lines with a score so
    high is kept (`Calibration`). Each way may have a part of the alarms (SORTS): the smallest
    share, each divided by its part, is the line's own.

    Args:
        alarms: the number of lines that are marked in a usual day; without times, in DAY_OF_LINES lines.

    Attributes:
        lines: number of lines so far.
    """

    def __init__(self, alarms: float = ALARMS):
        self.alarms, self.lines, self.fresh = alarms, 0, 0.0
        self.first: float | None = None
        self.time: float | None = None
        self._kinds: OrderedDict[str, _Kind] = OrderedDict()
        self._bits, self._excess = Tail(ALL, 2.0), Tail(ALL, 1.0)
        self._burst, self._inside, self._lost = 0.0, False, False
        self._peaks: dict[str, float] = {}
        self._times: deque[float] = deque(maxlen=RUN)
        self._crowd = Tail(CROWD, 0.05)
        self.rhythms = Rhythms()
        self._sorts = {name: Calibration() for name in SORTS}

    def as_dict(self) -> dict[str, Any]:
        """For a file of JSON, and for `restore`."""
        return {
            **{name: getattr(self, name) for name in KEPT},
            "_peaks": dict(self._peaks),
            "kinds": [[kind, [tail.values for tail in one.numbers]] for kind, one in self._kinds.items()],
            "bits": self._bits.values,
            "excess": self._excess.values,
            "times": list(self._times),
            "crowd": self._crowd.values,
            "rhythms": self.rhythms.as_dict(),
            "sorts": {name: one.as_list() for name, one in self._sorts.items()},
        }

    @classmethod
    def restore(cls, kept: dict[str, Any]) -> "Rarity":
        """What `as_dict` gave. A state file of an earlier version had only a mean: it begins again."""
        one = cls()
        if "kinds" not in kept:
            return one
        for name in KEPT:
            setattr(one, name, kept[name])
        one._kinds.update((kind, _Kind(values)) for kind, values in kept["kinds"])
        one._bits, one._excess = Tail(ALL, 2.0, kept["bits"]), Tail(ALL, 1.0, kept["excess"])
        one.rhythms = Rhythms(**kept["rhythms"])
        one._times.extend(kept["times"])
        one._crowd = Tail(CROWD, 0.05, kept["crowd"])
        one._sorts = {name: Calibration(*kept["sorts"][name]) for name in SORTS}
        return one

    @property
    def share(self) -> float:
        """The share of lines that may stand out."""
        span = 0.0 if self.first is None or self.time is None else self.time - self.first
        lines = self.lines * DAY / span if span > 0 else DAY_OF_LINES
        return min(MOST, self.alarms / lines)

    def judge(self, text: str, time: float | None, found: Features) -> Verdict:
        """How rare a line is; counts it."""
        kind = template(text)
        known = self._kinds.get(kind)
        judged = {"text": self._text(known, found), "number": self._number(self._known(kind), text)}
        if time is not None and found.early is not None and found.late is not None:
            judged["overdue"] = self.late(time)
            judged |= self._gaps(time, found.early, found.late)
            judged["crowd"] = self._run(time), "burst"
            judged["rhythm"] = -math.log(self.rhythms.come(kind, time)), "early"
            self.rhythms.come(ANY, time)
            self.first, self.time = time if self.first is None else self.first, time
        self.lines += 1
        return self._verdict(judged, kind)

    def silent(self, time: float) -> Verdict:
        """Whether it is rare that nothing has come by `time`: for a log that is read as it is written.

        What is overdue is said once, here or with the next line.
        """
        score, reason = self.late(time)
        calibration = self._sorts["overdue"]
        chance = min(1.0, calibration.chance(score) / SORTS["overdue"])
        if score > 0:
            calibration.add(score, self.share)
        rare = chance <= self.share and self.lines > WARM_UP
        return Verdict(-math.log2(max(chance, 1e-300)), reason, "", rare)

    def late(self, time: float) -> Judged:
        """Of the lines that should have come before `time` and have not."""
        late = self.rhythms.overdue(time)
        return (0.0, "") if late is None else (math.log(2 * OVERDUE / late.chance), silence(late))

    def _gaps(self, time: float, early: float, late: float) -> dict[str, Judged]:
        """Of the gap before the line, and of the last few. The line after an odd text counts as usual: the
        model has lost its thread, and foretells no gap well."""
        if self._lost:
            early = late = 1.0
        gap = 0.0 if self.time is None else time - self.time
        self._burst = FADING * self._burst - math.log(early)
        short = max(0.0, self._burst - 2 / (1 - FADING))
        return {"burst": (short, "burst"), "gap": (-math.log(late), f"silence: no line for {seconds(gap)}")}

    def _verdict(self, judged: dict[str, Judged], kind: str) -> Verdict:
        share = self.share
        chances = {name: self._sorts[name].chance(score) for name, (score, _) in judged.items()}
        for name, (score, _) in judged.items():
            if name in RUNS:
                score = self._peak(name, score)
            self._sorts[name].add(score, share)
        parts = {name: min(1.0, chance / SORTS[name]) for name, chance in chances.items()}
        least = min(parts.values())
        self._lost = chances["text"] < LOST
        telling = next(name for name in SORTS if parts.get(name, 2.0) <= least ** (1 / 3))
        rare = least <= share and self.lines > WARM_UP
        again = telling in RUNS and self._inside
        self._inside = any(self._peaks.values()) and (self._inside or (rare and telling in RUNS))
        return Verdict(-math.log2(max(least, 1e-300)), judged[telling][1], kind, rare and not again)

    def _peak(self, name: str, score: float) -> float:
        """Scores of a run of lines are one event: its largest when it ends, and 0 before."""
        peak = self._peaks.get(name, 0.0)
        self._peaks[name] = max(peak, score) if score > 0 else 0.0
        return 0.0 if score > 0 else peak

    def _known(self, kind: str) -> _Kind:
        known = self._kinds.get(kind)
        if known is None:
            known = self._kinds[kind] = _Kind()
            if len(self._kinds) > KINDS:
                self._kinds.popitem(last=False)
        self._kinds.move_to_end(kind)
        return known

    def _text(self, known: _Kind | None, found: Features) -> Judged:
        """Of the line's text; a line of a new kind is also as rare as new kinds are."""
        score, reason = 0.0, "unusual text"
        if known is None:
            score, reason = -math.log((self.fresh + 1) / (self.lines + 2)), "new kind of line"
            self.fresh += 1
        chance = min(self._excess.above(found.excess), OF_BITS * self._bits.above(found.bits))
        self._excess.add(found.excess)
        self._bits.add(found.bits)
        if self._lost and known is not None:
            return 0.0, reason
        return score - math.log(chance), reason

    def _number(self, known: _Kind, text: str) -> Judged:
        best, reason = 1.0, ""
        for place, number in enumerate(numbers(text)):
            if place == len(known.numbers):
                known.numbers.append(Tail(WINDOW, 0.1))
            usual, value = known.numbers[place], math.log1p(number.value)
            above, below = usual.above(value), usual.below(value)
            if len(usual) >= FEW and min(above, below) < best:
                best = min(above, below)
                large = "slow" if number.duration else "large number"
                small = "fast" if number.duration else "small number"
                typical = math.expm1(usual.median)
                reason = f"{large if above < below else small}: {number.value:g}, usually {typical:.3g}"
            usual.add(value)
        return -math.log(best), reason

    def _run(self, time: float) -> float:
        """Of how fast the last RUN lines came."""
        score = 0.0
        if len(self._times) == RUN:
            span = math.log(max(time - self._times[0], 0.0) + 1e-3)
            score = max(0.0, -math.log(self._crowd.below(span)) - 2.0)
            if self.lines % (RUN // 4) == 0:
                self._crowd.add(span)
        self._times.append(time)
        return score


def seconds(value: float) -> str:
    """A span of time in words: 0.25 s, 12 s, 3 min, 5 h."""
    for unit, size in (("h", 3600.0), ("min", 60.0)):
        if value >= 2 * size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.3g} s"


def silence(late: Overdue) -> str:
    """What has not come, in words."""
    what = "any line" if late.kind == ANY else f"“{late.kind[:60]}”"
    return f"silence: no {what} for {seconds(late.seconds)}, usually every {seconds(late.usual)}"
