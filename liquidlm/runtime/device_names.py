"""Names of devices, checked without torch."""

import re

from ..errors import LiquidError

APPLE = "mps"
"""torch's name for Apple's GPU."""
NAMES = re.compile(r"(cpu|cuda)(:(0|[1-9]\d{0,2}))?")


def check_device_name(name: str) -> None:
    """Check that a name is that of a CPU or a GPU; whether the machine has it, torch knows.

    Raises:
        LiquidError: it is not, or it is Apple's GPU, which has no float64.

    Example:
        >>> check_device_name("cuda:1")
        >>> check_device_name("gpu")
        Traceback (most recent call last):
            ...
        liquidlm.errors.LiquidError: unknown device 'gpu': give cpu, cuda, or cuda:N for GPU number N
    """
    if name.partition(":")[0] == APPLE:
        raise no_float64()
    if not NAMES.fullmatch(name):
        raise LiquidError(f"unknown device {name!r}: give cpu, cuda, or cuda:N for GPU number N")


def no_float64() -> LiquidError:
    """The error for Apple's GPU."""
    return LiquidError("Apple's GPU (mps) has no float64, and times are kept in float64: use the CPU")
