"""The times of prompts and of printed text ⇄ seconds. The times of a file are found by `line_clock`.

Known clocks, plain at the beginning of a line or, except the last two, in [ ] or ( ):

- a date and time: ``2026-01-31T12:00:00``, ``2026-01-31 12:00:00.250 +01:00``, ``… UTC`` (ISO 8601; UTC if no
  zone is given);
- syslog: ``Jan 31 12:00:00`` (no year; UTC);
- a clock since the beginning: ``12:31``, ``00:12:31.5``, ``3:00:12:31`` (days, hours, minutes, seconds);
- in brackets, any number of seconds: ``[12.5]``;
- without brackets, seconds since 1970: ``1700000000.5`` (9 digits or more, so that no other number counts).

To add a clock here, write its pattern, put it into PLAIN and BRACKETED, and convert it in `seconds`. To add a
form of time for files, add it to `kinds.py`.
"""

import re
from datetime import UTC, datetime
from typing import NamedTuple

from .instants import LARGEST_TIME


class LineBegin(NamedTuple):
    """A time at the beginning of a line.

    Attributes:
        kind: the number of its pattern in STAMPS.
        time: in seconds.
        end: the position in the line where the text begins.
    """

    kind: int
    time: float
    end: int


DATE = r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?: ?(?:Z|UTC|[+-]\d\d:?\d\d))?"
SYSLOG = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [ \d]\d \d\d:\d\d:\d\d"
CLOCK = r"-?(?:\d+:)?(?:\d+:)?\d+:\d\d(?:[.,]\d+)?"
NUMBER = r"-?\d+(?:\.\d+)?"
EPOCH_NUMBER = r"\d{9,}(?:\.\d+)?"
PLAIN, BRACKETED = (DATE, SYSLOG, CLOCK, EPOCH_NUMBER), (DATE, SYSLOG, CLOCK, NUMBER)
STAMPS = [
    re.compile(rf"{before}({time}){after}(?=[:,;]?(?:\s|$))[:,;]?\s?")
    for before, after, times in (("", "", PLAIN), (r"\[\s*", r"\]", BRACKETED), (r"\(", r"\)", BRACKETED))
    for time in times
]
"""A pattern for each kind of time at the beginning of a line."""
CLOCK_UNITS = (1.0, 60.0, 3600.0, 86400.0)
"""Seconds in the fields of a clock, the last field first: [[DD:]HH:]MM:SS."""

DATED_FROM = 1e8
"""Times from this number of seconds on count as seconds since 1970."""
FIRST_DATE, LAST_DATE = -62_135_596_800.0, 253_402_300_799.0
"""The first and the last second that can be shown as a date: the years 1 to 9999."""


def seconds(time: object) -> float:
    """A time in seconds: since 1970 if it is a date.

    >>> seconds("2026-01-31T12:00:00"), seconds("01:02:03.5"), seconds(12)
    (1769860800.0, 3723.5, 12.0)

    Args:
        time: a number, or text in one of the forms at the top of this file.

    Raises:
        ValueError: `time` has another form, is not finite, or is over LARGEST_TIME.
    """
    if isinstance(time, int | float) and not isinstance(time, bool):
        found = float(time)
    elif not isinstance(time, str):
        raise ValueError(f"{time!r} is not a time")
    elif re.fullmatch(CLOCK, time):
        sign, fields = (-1.0 if time.startswith("-") else 1.0), time.lstrip("-").replace(",", ".").split(":")
        units = zip(reversed(fields), CLOCK_UNITS, strict=False)
        found = sign * sum(float(field) * unit for field, unit in units)
    elif re.fullmatch(SYSLOG, time):  # a leap year, so that Feb 29 is a date
        found = datetime.strptime(f"2000 {time}", "%Y %b %d %H:%M:%S").replace(tzinfo=UTC).timestamp()
    elif re.fullmatch(r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?", time):
        found = float(time)
    else:
        moment = datetime.fromisoformat(time.replace(",", ".").replace(" UTC", "Z").replace(" +", "+"))
        found = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if not abs(found) <= LARGEST_TIME:
        raise ValueError(f"{time!r} is not finite, or too large for a time")
    return found


def find_stamp(line: str, kind: int | None = None) -> LineBegin | None:
    """The time at the beginning of a line, or None if there is none.

    >>> line = "[00:01:30] The door opens."
    >>> stamp = find_stamp(line)
    >>> stamp.time, line[stamp.end :]
    (90.0, 'The door opens.')

    Args:
        line: the text of a line.
        kind: look for this kind only (`LineBegin.kind`); None: for every kind.
    """
    for number in range(len(STAMPS)) if kind is None else (kind,):
        if found := STAMPS[number].match(line):
            try:
                return LineBegin(number, seconds(found[1]), found.end())
            except ValueError:
                return None
    return None


def is_dated(time: float) -> bool:
    """Whether a text that begins at this time shows its times as dates."""
    return FIRST_DATE <= time <= LAST_DATE and abs(time) >= DATED_FROM


def format_stamp(time: float, dated: bool | None = None) -> str:
    """A time in brackets, as it begins a line, to a tenth of a second.

    >>> format_stamp(90.5), format_stamp(1769860800.0)
    ('[00:01:30.5]', '[2026-01-31 12:00:00]')

    Args:
        time: in seconds.
        dated: show a date and time in UTC, not a clock; after the year 9999 the seconds are shown. None: a
            date where `is_dated` is true.
    """
    tenths = round(time * 10)
    if is_dated(time) if dated is None else dated:
        whole, rest = divmod(tenths, 10)
        try:
            moment = datetime.fromtimestamp(whole, UTC)
        except (OverflowError, ValueError, OSError):  # after the year 9999
            return f"[{time:.0f}]"
        return f"[{moment.year:04}{moment:-%m-%d %H:%M:%S}" + (f".{rest}]" if rest else "]")
    whole, rest = divmod(abs(tenths), 10)
    minutes, whole = divmod(whole, 60)
    sign = "-" if tenths < 0 else ""
    return f"[{sign}{minutes // 60:02}:{minutes % 60:02}:{whole:02}{f'.{rest}' if rest else ''}]"
