"""How fast a model learns while it reads: the limits of rate and budget, checked without torch."""

from ..errors import LiquidError

MOST_ROWS = 16
"""The largest budget: rows of an update."""


def check_pace(rate: float, budget: float = 1.0) -> None:
    """Check the peak learning rate, and the tokens learned per token read (see `OnlineLearner`).

    Raises:
        LiquidError: one of them is out of range.

    Example:
        >>> check_pace(rate=0.01, budget=4.0)
    """
    if not 0 < rate <= 1:
        raise LiquidError(f"the learning rate must be above 0 and at most 1, not {rate:g}")
    if not (0 < budget <= 1 or budget in range(2, MOST_ROWS + 1)):
        raise LiquidError(
            f"the learning budget must be a share, above 0 and at most 1, or a whole number up to"
            f" {MOST_ROWS}, not {budget:g}"
        )
