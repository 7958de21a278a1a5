"""When lines of a kind come: how late, and how early, one is."""

import heapq
import math
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from .tails import FEW, Tail

WINDOW = 64
"""Gaps of a kind that are kept."""
KINDS = 512
"""Kinds that are kept; the one not seen for longest is forgotten."""
OVERDUE = 0.02
"""A kind is overdue when so few of its gaps are so long."""
TINY = 1e-12
"""No gap has a smaller chance."""
RARER, LEAST = 8.0, 1e-9
"""An overdue kind is looked at again when its chance is this many times smaller, but not under LEAST."""
ODD = 0.005
"""A gap so rare does not count as usual, unless the one before was as rare."""
MOMENT = 1e-3
"""Seconds that are added to a gap, so that its logarithm is finite."""
LEAST_SPREAD = 0.004
"""The least spread of gaps, as a share of the gap."""
BEAT = 0.05
"""A kind has a beat if the middle half of its gaps differs by less than this share."""
HALF = 1.349
"""The width of the middle half of a normal distribution, in standard deviations."""
ANY = ""
"""The kind that is any line."""


class Overdue(NamedTuple):
    """A kind of line that has not come for long.

    Attributes:
        kind: which; ANY is any line.
        seconds: since the last.
        usual: seconds between two, the median.
        chance: of a gap so long.
    """

    kind: str
    seconds: float
    usual: float
    chance: float


class _Rhythm:
    """The gaps of one kind, as logarithms."""

    __slots__ = ("gaps", "last", "odd", "waits")

    def __init__(self, last: float, gaps: Iterable[float] = (), odd: bool = False):
        self.last, self.gaps, self.odd = last, Tail(WINDOW, LEAST_SPREAD, gaps), odd
        self.waits = False

    @property
    def spread(self) -> float | None:
        """The standard deviation of a beat, from the middle half of the gaps; None without a beat.

        Gaps far from the beat, such as those in which one was left out, do not change it.
        """
        if len(self.gaps) < FEW:
            return None
        width = self.gaps.quantile(0.75) - self.gaps.quantile(0.25)
        return max(width / HALF, LEAST_SPREAD) if width < BEAT else None

    def above(self, gap: float) -> float:
        """P(x ≥ gap); on a beat with median m and spread σ it is ½ exp(−√2 (gap − m)/σ) beyond m."""
        return self.gaps.above(gap) if self.spread is None else self._beyond_beat(gap - self.gaps.median)

    def below(self, gap: float) -> float:
        """P(x ≤ gap); see `above`."""
        return self.gaps.below(gap) if self.spread is None else self._beyond_beat(self.gaps.median - gap)

    def beyond(self, chance: float) -> float:
        """The gap v > m with P(x ≥ v) = chance; infinite with few gaps."""
        spread = self.spread
        if spread is None:
            return self.gaps.beyond(chance)
        return self.gaps.median - spread * math.log(2 * chance) / math.sqrt(2)

    def _beyond_beat(self, distance: float) -> float:
        scaled = math.sqrt(2) * distance / (self.spread or LEAST_SPREAD)
        return 0.5 * math.exp(-scaled) if scaled > 0 else 1 - 0.5 * math.exp(scaled)


def _log(gap: float) -> float:
    return math.log(max(gap, 0.0) + MOMENT)


class Rhythms:
    """The gaps between lines of each kind, in constant memory."""

    def __init__(
        self,
        rhythms: Iterable[Sequence[Any]] = (),
        deadlines: Iterable[Sequence[Any]] = (),
    ):
        """The rhythms and deadlines of `as_dict`."""
        self._kinds: OrderedDict[str, _Rhythm] = OrderedDict(
            (kind, _Rhythm(*rest)) for kind, *rest in rhythms
        )
        self._deadlines = [(float(time), kind) for time, kind in deadlines]
        for _, kind in self._deadlines:
            if kind in self._kinds:
                self._kinds[kind].waits = True

    def as_dict(self) -> dict[str, list[Any]]:
        """For a file of JSON; `Rhythms(**dict)` is the same again."""
        kinds = [[kind, one.last, one.gaps.values, one.odd] for kind, one in self._kinds.items()]
        return {"rhythms": kinds, "deadlines": [list(one) for one in self._deadlines]}

    def overdue(self, time: float) -> Overdue | None:
        """The rarest of what should have come before `time`; again only when it is RARER times as rare."""
        found: Overdue | None = None
        while self._deadlines and self._deadlines[0][0] < time:
            kind = heapq.heappop(self._deadlines)[1]
            rhythm = self._kinds.get(kind)
            if rhythm is None:
                continue
            rhythm.waits = False
            gap = _log(time - rhythm.last)
            chance = max(rhythm.above(gap), TINY)
            if chance > OVERDUE:  # has come since the deadline was set
                self._expect(kind)
                continue
            self._expect(kind, chance / RARER)
            if found is None or chance < found.chance:
                found = Overdue(kind, time - rhythm.last, math.exp(rhythm.gaps.median), chance)
        return found

    def come(self, kind: str, time: float) -> float:
        """A line of the kind has come; returns the chance that it comes so early."""
        rhythm = self._kinds.get(kind)
        if rhythm is None:
            self._kinds[kind] = _Rhythm(time)
            if len(self._kinds) > KINDS:
                self._kinds.popitem(last=False)
            return 1.0
        self._kinds.move_to_end(kind)
        gap = _log(time - rhythm.last)
        chance = max(rhythm.below(gap), TINY)
        odd = len(rhythm.gaps) >= FEW and min(rhythm.gaps.below(gap), rhythm.gaps.above(gap)) < ODD
        if not odd or rhythm.odd:  # one alone does not become usual; two in a row are a new rhythm
            rhythm.gaps.add(gap)
        rhythm.odd = odd
        rhythm.last = time
        self._expect(kind)
        return chance

    def _expect(self, kind: str, chance: float = OVERDUE) -> None:
        """Look at the kind when so few of its gaps are so long."""
        rhythm = self._kinds[kind]
        if not rhythm.waits and chance > LEAST and math.isfinite(late := rhythm.beyond(chance)):
            rhythm.waits = True
            gap = math.exp(min(late, 700.0)) - MOMENT
            deadline = rhythm.last + gap
            rounding = 1e-6 + 1e-9 * gap + 4 * math.ulp(deadline)  # the chance must be smaller there
            heapq.heappush(self._deadlines, (deadline + rounding, kind))
