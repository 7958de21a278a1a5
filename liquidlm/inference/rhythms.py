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
RARER, LEAST = 8.0, 1e-9
"""A kind that is overdue is looked at again when its chance is so many times smaller, but not under LEAST."""
ODD = 0.005
"""A gap so rare does not count as usual, unless the one before was as rare."""
MOMENT = 1e-3
"""Seconds that are added to a gap, so that its logarithm is finite."""
LEAST_SPREAD = 0.004
"""The least spread of gaps, as a share of the gap."""
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
            chance = rhythm.gaps.above(gap)
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
        chance = rhythm.gaps.below(gap)
        odd = len(rhythm.gaps) >= FEW and min(chance, rhythm.gaps.above(gap)) < ODD
        if not odd or rhythm.odd:  # one alone does not become usual; two in a row are a new rhythm
            rhythm.gaps.add(gap)
        rhythm.odd = odd
        rhythm.last = time
        self._expect(kind)
        return chance

    def _expect(self, kind: str, chance: float = OVERDUE) -> None:
        """Look at the kind when so few of its gaps are so long."""
        rhythm = self._kinds[kind]
        if not rhythm.waits and chance > LEAST and math.isfinite(late := rhythm.gaps.beyond(chance)):
            rhythm.waits = True
            deadline = rhythm.last + math.exp(min(late, 700.0)) - MOMENT
            heapq.heappush(self._deadlines, (deadline + 1e-9 * abs(deadline), kind))
