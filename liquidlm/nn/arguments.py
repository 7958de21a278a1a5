"""Checks of the sizes and rates that parts are built with."""

import math
from numbers import Integral, Real

from ..errors import LiquidError


def check_integers(least: int = 1, /, **sizes: object) -> None:
    """Check that sizes are whole numbers of at least `least`.

    Raises:
        LiquidError: one is not; the message names the first.
    """
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, Integral) or int(size) < least:
            raise LiquidError(f"{name} must be a whole number of at least {least}, not {size!r}")


def check_rate(**rates: object) -> None:
    """Check that dropout rates are in [0, 1).

    Raises:
        LiquidError: one is not; the message names the first.
    """
    for name, rate in rates.items():
        if isinstance(rate, bool) or not isinstance(rate, Real) or not 0 <= float(rate) < 1:
            raise LiquidError(f"{name} must be a number in [0, 1), not {rate!r}")


def check_positive(**values: object) -> None:
    """Check that values are finite numbers greater than 0.

    Raises:
        LiquidError: one is not; the message names the first.
    """
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, Real) or not 0 < float(value) < math.inf:
            raise LiquidError(f"{name} must be a finite number greater than 0, not {value!r}")
