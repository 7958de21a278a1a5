"""The gaps between the times of a text: the step of its clock, and how many gaps are how long."""

from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

STEPS = (86400.0, 3600.0, 60.0, 1.0, 0.1, 0.01, 0.001, 0.0001, 0.00001)
"""The steps of clocks that are looked for, in seconds. Each divides those before it."""
GAP_ERROR = 1e-6
"""The largest error of a gap in seconds: float64 keeps times since 1970 to within 2·10⁻⁷."""
EDGES = (0.0, 0.001, 0.01, 0.1, 1.0, 10.0, 60.0, 600.0, 3600.0, 86400.0)
"""The last gap of each bin of the histogram but the last bin, in seconds."""


class Bin(NamedTuple):
    """Gaps of about one length: over `above` seconds (the first bin: 0), and at most `to` (None: any)."""

    above: float
    to: float | None
    number: int


def clock_step(gaps: Sequence[float]) -> float:
    """The step of a clock in seconds: the largest of STEPS that divides every gap over 0; 0 if none does.

    >>> clock_step([60.0, 0.5, 0.0]), clock_step([])
    (0.1, 0.0)
    """
    left, seen = list(STEPS), False
    for gap in gaps:
        while gap > 0 and left and abs(max(round(gap / left[0]), 1) * left[0] - gap) >= GAP_ERROR:
            del left[0]
        seen = seen or gap > 0
    return left[0] if left and seen else 0.0


def histogram(gaps: Sequence[float]) -> list[Bin]:
    """How many gaps are how long, from 0 to more than a day.

    >>> [each for each in histogram([0.0, 0.5, 1.0, 90.0]) if each.number]
    [Bin(above=0.0, to=0.0, number=1), Bin(above=0.1, to=1.0, number=2), Bin(above=60.0, to=600.0, number=1)]
    """
    counts = [0] * (len(EDGES) + 1)
    for gap in gaps:
        counts[bisect_left(EDGES, gap - GAP_ERROR if gap > GAP_ERROR else gap)] += 1
    return [
        Bin(above, to, count) for above, to, count in zip((0.0, *EDGES), (*EDGES, None), counts, strict=True)
    ]
