"""What the parts are built with: sizes and rates, checked once and in one way."""

import math
from numbers import Integral, Real

from ..errors import LiquidError


def check_whole(least: int = 1, /, **sizes: object) -> None:
    """Sizes are whole numbers of at least `least`; of those that may be None, give the others.

    Raises:
        LiquidError: naming the first that is not.
    """
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, Integral) or int(size) < least:
            raise LiquidError(f"{name} must be a whole number of at least {least}, not {size!r}")


def check_rate(**rates: object) -> None:
    """Dropout rates are in [0, 1).

    Raises:
        LiquidError: naming the first that is not.
    """
    for name, rate in rates.items():
        if isinstance(rate, bool) or not isinstance(rate, Real) or not 0 <= float(rate) < 1:
            raise LiquidError(f"{name} must be a number in [0, 1), not {rate!r}")


def check_positive(**values: object) -> None:
    """Scales are numbers over 0, and finite.

    Raises:
        LiquidError: naming the first that is not.
    """
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, Real) or not 0 < float(value) < math.inf:
            raise LiquidError(f"{name} must be a finite number over 0, not {value!r}")
