"""Running mean and variance of scores: which score is far above the others."""

import math
from dataclasses import dataclass

MEMORY = 10_000
"""Number of lines over which the running mean and variance forget."""
WARM_UP = 100
"""The first lines of a log never stand out: the statistics are not reliable yet."""


@dataclass
class ScoreStatistics:
    """Mean and variance of the scores so far, with exponential forgetting.

    m ← m + w (s − m),  v ← (1 − w)(v + w (s − m)²),  w = max(1/n, 1/MEMORY), for the n-th score s.

    Attributes:
        lines: number of scores so far, n.
        mean: m.
        variance: v.

    Example:
        >>> statistics = ScoreStatistics()
        >>> any(statistics.exceeded(float(score % 2), threshold=4.0) for score in range(200))
        False
        >>> round(statistics.mean, 2), statistics.exceeded(9.0, threshold=4.0)
        (0.5, True)
    """

    lines: int = 0
    mean: float = 0.0
    variance: float = 0.0

    def exceeded(self, score: float, threshold: float) -> bool:
        """Whether `score` is more than `threshold` standard deviations above the mean; then adds the score.

        False for the first WARM_UP scores. A score above the limit is added as the limit, so that a run of
        outliers does not raise the limit much.
        """
        limit = self.mean + threshold * math.sqrt(self.variance)
        exceeds = self.lines >= WARM_UP and score > limit
        self.lines += 1
        weight = max(1 / self.lines, 1 / MEMORY)
        deviation = (min(score, limit) if exceeds else score) - self.mean
        self.mean += weight * deviation
        self.variance = (1 - weight) * (self.variance + weight * deviation * deviation)
        return exceeds
