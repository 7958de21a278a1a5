"""The parts of a written time ▶ seconds."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import NamedTuple

from .words import month_number
from .zones import unclear_zone, zone_of

Parts = Mapping[str, str | None]
"""The groups of a pattern of `kinds`."""
EPOCH_DAY = date(1970, 1, 1).toordinal()
DAY = 86_400
FIRST, LAST = 3e8, 5e9
"""A number of s, ms, µs or ns since 1970 is a time between these seconds: 1979 to 2128."""
LARGEST_TIME = 1e16
"""The largest time in seconds: in float64, larger numbers are more than a second apart."""
TAI64 = 2**62 + 10
"""The label of 1970 in TAI64N, as daemontools write it."""
CLOCK_UNITS = (1, 60, 3600, DAY)


class Instant(NamedTuple):
    """A time, and where a local time is there twice, the other one.

    Attributes:
        time: in seconds since 1970.
        again: an hour later, where clocks are set back.
    """

    time: int
    again: int


def second_of_day(parts: Parts, most: int = 24) -> int:
    """The second of the day, from 0 to 86,400; a leap second is the first of the next minute.

    Args:
        parts: hour, minute and second.
        most: the largest hour.

    Raises:
        ValueError: there is no such time.
    """
    hour, minute, second = int(parts["H"] or 0), int(parts.get("M") or 0), int(parts.get("S") or 0)
    if half := parts.get("p"):
        if hour > 12 and half[0] in "aA":
            raise ValueError(f"{hour} {half} is not a time")
        hour = hour % 12 + 12 * (half[0] in "pP") if hour <= 12 else hour
    if minute > 59 or second > 60 or hour > most or (hour == most == 24 and minute + second):
        raise ValueError(f"{hour}:{minute}:{second} is not a time")
    return 3600 * hour + 60 * minute + second


def month_and_day(parts: Parts) -> tuple[int, int]:
    """Month and day of a date."""
    month = month_number(parts["b"] or "") if parts.get("b") else int(parts["m"] or 0)
    return month, int(parts["d"] or 0)


def local_second(parts: Parts) -> int:
    """Seconds since 1970 on the clock on the wall.

    >>> local_second({"Y": "2026", "m": "1", "d": "31", "H": "12", "M": "0", "S": "0"})
    1769860800

    Raises:
        ValueError: there is no such date or time.
    """
    if year := parts.get("y"):
        number = int(year) + (2000 if int(year) < 69 else 1900)
    else:
        number = int(parts["Y"] or 0)
    if week := parts.get("w"):
        day = date.fromisocalendar(number, int(week), int(parts["wd"] or 0)).toordinal()
    elif of_year := parts.get("j"):
        day = date(number, 1, 1).toordinal() + int(of_year) - 1
        if not 0 < int(of_year) <= 366 or date.fromordinal(day).year != number:
            raise ValueError(f"{number} has no day {of_year}")
    else:
        day = date(number, *month_and_day(parts)).toordinal()
    return (day - EPOCH_DAY) * DAY + (second_of_day(parts) if parts.get("H") else 0)


def zone_in(parts: Parts, zone: tzinfo | None) -> tzinfo:
    """The zone of a time: as it is written, or else the user's, or else UTC.

    Raises:
        LiquidError: the name is not known, or several have it, and the user gave no zone.
    """
    if name := parts.get("z") or parts.get("z2"):
        found = zone_of(name)
        if found is None and zone is None:
            raise unclear_zone(name)
        return found or zone or UTC
    return zone or UTC


def instant(local: int, zone: tzinfo) -> Instant:
    """Seconds since 1970 of a time on the wall of a zone.

    >>> instant(1769860800, UTC)
    Instant(time=1769860800, again=1769860800)
    """
    if zone is UTC:
        return Instant(local, local)
    wall = datetime(1970, 1, 1) + timedelta(seconds=local)
    first, second = (wall.replace(tzinfo=zone, fold=fold).utcoffset() or timedelta() for fold in (0, 1))
    times = [local - round(offset.total_seconds()) for offset in (first, second)]
    return Instant(times[0], max(times) if times[1] > times[0] else times[0])


def since_1970(parts: Parts) -> float:
    """A number of s, ms, µs or ns since 1970 in seconds; its size says the unit. Or a label of TAI64N.

    >>> since_1970({"s": "1769860800123"}), since_1970({"s": "1769860800", "f": "5"})
    (1769860800.123, 1769860800.5)

    Raises:
        ValueError: it is not a time in any of the units.
    """
    if label := parts.get("t"):
        return int(label, 16) - TAI64 + int(parts["t9"] or "0", 16) / 1e9
    whole, decimals = int(parts["s"] or 0), parts.get("f")
    for unit in (1, 10**3, 10**6, 10**9):
        if FIRST <= whole / unit <= LAST:
            return (whole + float(f"0.{decimals}")) / unit if decimals else whole / unit
    raise ValueError(f"{whole} is not a time since 1970")


def since_beginning(clock: str) -> float:
    """Seconds of a clock ``[[DD:]HH:]MM:SS``.

    >>> since_beginning("-0:01:30.5")
    -90.5
    """
    sign = -1.0 if clock.startswith("-") else 1.0
    fields = clock.lstrip("-").replace(",", ".").split(":")
    return sign * sum(float(field) * unit for field, unit in zip(reversed(fields), CLOCK_UNITS, strict=False))
