"""The share of values as rare as one: a window of values, and exponential tails beyond it."""

import math
from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Iterable

FEW = 16
"""With fewer values than this there is no tail beyond those seen."""
TAIL = 8
"""One value in this many belongs to a tail."""
CLIP = 7.0
"""A value counts as at most this many mean excesses out in the tail, so that outliers do not become usual."""


class Tail:
    """The last values of one quantity, and the chance of one as far out.

    P(x ≥ v) is the share of values in the window; beyond its k-th largest value u it is
    (k + 1)/(n + 1) · (1 + (v − u)/(k β))^−k, where β is the mean excess over u. That is the predictive
    chance of an exponential tail that is known from k values.

    Args:
        size: number of values that are kept.
        scale: a lower bound of β.
        values: the values so far, the oldest first.

    Example:
        >>> tail = Tail(100, 0.1, [float(value) for value in range(100)])
        >>> round(tail.above(50.0), 2), tail.above(1000.0) < 1e-6
        (0.5, True)
    """

    __slots__ = ("_found", "_order", "_sorted", "scale", "size")

    def __init__(self, size: int, scale: float, values: Iterable[float] = ()):
        self.size, self.scale = size, scale
        self._order = deque(values)
        self._sorted = sorted(self._order)
        self._found: dict[int, float] = {}

    def __len__(self) -> int:
        return len(self._order)

    @property
    def values(self) -> list[float]:
        """The values, the oldest first."""
        return list(self._order)

    @property
    def median(self) -> float:
        """The middle value; there must be one."""
        return self.quantile(0.5)

    def quantile(self, share: float) -> float:
        """The value with this share of the values below it; there must be one."""
        return self._sorted[int(len(self._sorted) * share)]

    def add(self, value: float) -> None:
        """Count a value; the oldest is forgotten when there are `size`."""
        values = self._sorted
        if len(values) >= FEW:
            k = self._count()
            if value > (limit := values[-k - 1]):
                value = min(value, limit + CLIP * self._excess(1))
            elif value < (limit := values[k]):
                value = max(value, limit - CLIP * self._excess(-1))
        insort(values, value)
        self._order.append(value)
        self._found.clear()
        if len(values) > self.size:
            del values[bisect_left(values, self._order.popleft())]

    def above(self, value: float) -> float:
        """P(x ≥ value)."""
        values = self._sorted
        n = len(values)
        if n >= FEW:
            k = self._count()
            if value > (limit := values[-k - 1]):
                return (k + 1) / (n + 1) * (1 + (value - limit) / (k * self._excess(1))) ** -k
        return (n - bisect_left(values, value) + 1) / (n + 1)

    def below(self, value: float) -> float:
        """P(x ≤ value)."""
        values = self._sorted
        n = len(values)
        if n >= FEW:
            k = self._count()
            if value < (limit := values[k]):
                return (k + 1) / (n + 1) * (1 + (limit - value) / (k * self._excess(-1))) ** -k
        return (bisect_right(values, value) + 1) / (n + 1)

    def beyond(self, chance: float) -> float:
        """The value v with P(x ≥ v) = chance, out in the tail; infinite with few values."""
        n = len(self._sorted)
        if n < FEW:
            return math.inf
        k = self._count()
        return self._sorted[-k - 1] + k * self._excess(1) * ((chance * (n + 1) / (k + 1)) ** (-1 / k) - 1)

    def _count(self) -> int:
        """Number of values in a tail. The upper tail begins after the value −k − 1, the lower before k."""
        return max(4, len(self._sorted) // TAIL)

    def _excess(self, side: int) -> float:
        """Mean excess in the upper (1) or lower (−1) tail."""
        found = self._found.get(side)  # asked for several times between two values
        if found is None:
            values, k = self._sorted, self._count()
            excess = sum(values[-k:]) / k - values[-k - 1] if side > 0 else values[k] - sum(values[:k]) / k
            found = self._found[side] = max(excess, self.scale)
        return found


class Calibration:
    """What share of lines has so high a score: scores of one sort, 0 where there is nothing to say.

    P(s ≥ v) = P(s > 0) · P(s ≥ v | s > 0). The tail begins as that of −ln p of true chances, which is
    exponential with mean 1 (PRIOR values of it), and is then what the scores are.

    Args:
        lines: number of scores so far.
        some: number of those that are not 0.
        values: the last scores that are not 0, the oldest first.
    """

    SIZE = 2000
    PRIOR = 8
    __slots__ = ("_order", "_sorted", "lines", "some")

    def __init__(self, lines: float = 0.0, some: float = 0.0, values: Iterable[float] = ()):
        self.lines, self.some = lines, some
        self._order = deque(values)
        self._sorted = sorted(self._order)

    def chance(self, score: float) -> float:
        """The share of lines with a score at least so high."""
        if score <= 0:
            return 1.0
        share, n = (self.some + 1) / (self.lines + 1), len(self._sorted)
        k = n // TAIL if n >= 4 * TAIL else n
        limit = self._sorted[-k - 1] if k < n else 0.0
        if score <= limit:
            return min(1.0, share * (n - bisect_left(self._sorted, score) + 1) / (n + 1))
        count = k + self.PRIOR
        excess = (sum(self._sorted[n - k :]) - k * limit + self.PRIOR) / count
        return min(1.0, share * (k + 1) / (n + 1) * (1 + (score - limit) / (count * excess)) ** -count)

    def add(self, score: float, least: float) -> None:
        """Count a score. One that is rarer than `least` counts as the largest so far."""
        if self.lines >= 10 * self.SIZE:  # forgets
            self.lines, self.some = self.lines / 2, self.some / 2
        self.lines += 1
        if score <= 0:
            return
        self.some += 1
        values = self._sorted
        if len(values) >= FEW and score > values[-1] and self.chance(score) < least:
            score = values[-1]
        insort(values, score)
        self._order.append(score)
        if len(values) > self.SIZE:
            del values[bisect_left(values, self._order.popleft())]

    def as_list(self) -> list[object]:
        """For a file of JSON; `Calibration(*list)` is the same again."""
        return [self.lines, self.some, list(self._order)]
