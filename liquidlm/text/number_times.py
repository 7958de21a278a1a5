"""Numbers ▶ times: the unit of a column of numbers, decided by all of them together."""

import re
from collections.abc import Iterable, Sequence
from statistics import median

from .clock.instants import FIRST, LARGEST_TIME, LAST

UNITS = (("seconds", 1), ("milliseconds", 10**3), ("microseconds", 10**6), ("nanoseconds", 10**9))
"""The units of the numbers that stand for times, and how many there are in a second."""
NAMED_UNITS = (
    (re.compile(r"nanos?$|_ns$|nanoseconds$", re.IGNORECASE), 3),
    (re.compile(r"micros$|_us$|microseconds$|usec$|^__REALTIME_TIMESTAMP$", re.IGNORECASE), 2),
    (re.compile(r"millis$|_ms$|milliseconds$|msec$", re.IGNORECASE), 1),
)
"""Names of fields that say the unit."""
ROUNDED = re.compile(r"[+-]?\d(?:\.\d{0,8})?[eE]\+?(?:9|1\d)")
"""A time since 1970 that a spreadsheet wrote with too few digits for its seconds."""
NUMBER = re.compile(r"[+-]?\d{1,30}(?:\.\d+)?(?:[eE][+-]?\d{1,3})?")
DATE = re.compile(r"(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?:[0-2]\d[0-5]\d(?:[0-6]\d)?)?")
"""A date, perhaps with a time of day, written without signs."""


def as_number(value: object) -> int | float | None:
    """The number that a value is, or that its text is; None for any other value.

    >>> as_number("1769860800123"), as_number(2.5), as_number("12:00")
    (1769860800123, 2.5, None)
    """
    if isinstance(value, str) and NUMBER.fullmatch(value := value.strip()) and not ROUNDED.fullmatch(value):
        value = int(value) if value.lstrip("+-").isdigit() else float(value)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def unit_of(numbers: Iterable[int | float], name: str = "") -> int:
    """The place in UNITS of the unit that numbers have.

    >>> unit_of([1769860800123, 1769860801123]), unit_of([0, 2.5])
    (1, 0)

    Args:
        numbers: the times of a file, or the first of them.
        name: of their field; it may say the unit, as ``timeUnixNano`` does.

    Raises:
        ValueError: they are too large for relative times, and no unit makes them dates of today.
    """
    for pattern, unit in NAMED_UNITS:
        if pattern.search(name):
            return unit
    middle = median(numbers)
    if middle < FIRST:
        return 0
    for unit, (_, factor) in enumerate(UNITS):
        if FIRST <= middle / factor <= LAST:
            return unit
    raise ValueError(f"{middle} is not a number of seconds, ms, µs or ns since 1970")


def are_dates(values: Sequence[object]) -> bool:
    """Whether all values are dates that are written as one number.

    >>> are_dates([20260131120000, "20260201"]), are_dates([1769860800])
    (True, False)
    """
    return bool(values) and all(DATE.fullmatch(str(value)) for value in values)


def number_time(number: int | float, unit: int) -> float:
    """The time in seconds of a number of units.

    >>> number_time(1769860800123, 1)
    1769860800.123

    Raises:
        ValueError: it is not finite, or over LARGEST_TIME; or it is a date in another unit only.
    """
    factor = UNITS[unit][1]
    if abs(number) < FIRST * factor and any(FIRST <= number / other <= LAST for _, other in UNITS[:unit]):
        raise ValueError(f"{number} is not in {UNITS[unit][0]}, as the others are")
    if number / factor > LAST and any(FIRST <= number / other <= LAST for _, other in UNITS[unit + 1 :]):
        raise ValueError(f"{number} is not in {UNITS[unit][0]}, as the others are")
    if not abs(number) <= LARGEST_TIME * factor:
        raise ValueError(f"{number:g} is not finite, or too large for a time")
    return number / factor
