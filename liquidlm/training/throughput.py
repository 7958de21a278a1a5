"""The rate of a run over its last minute."""

from collections import deque

WINDOW = 60.0
"""Seconds over which the rate is taken."""


class Throughput:
    """Tokens per second over the last minute, or since the start if that is less.

    Args:
        now: the time of the start in seconds.

    >>> rate = Throughput(0.0)
    >>> rate.add(1.0, 100), rate.add(2.0, 300)
    (100.0, 200.0)
    """

    def __init__(self, now: float):
        self.times: deque[tuple[float, int]] = deque([(now, 0)])

    def add(self, now: float, tokens: int) -> float:
        """Count tokens read until `now`, and give the rate."""
        total = self.times[-1][1] + tokens
        self.times.append((now, total))
        while len(self.times) > 2 and self.times[1][0] <= now - WINDOW:
            self.times.popleft()
        begin, before = self.times[0]
        return (total - before) / max(now - begin, 1e-9)
