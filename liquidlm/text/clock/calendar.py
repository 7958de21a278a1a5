"""Years and days that are not written: they go on when they are over."""

from dataclasses import dataclass
from datetime import date

from ...errors import LiquidError
from .instants import DAY, EPOCH_DAY

HALF_DAY, LATE, LATE_DAY = DAY // 2, 60.0, 3600.0
HALF_YEAR = 180 * DAY
STARTS = (0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334)
LENGTHS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
UNKNOWN_YEAR = 2001
"""The year of times without one, if the user does not say it. It is not a leap year; a file that has February
29 makes it one."""


@dataclass
class Calendar:
    """What is carried from line to line for times without a year, or without a date.

    Attributes:
        year: of the first time; None if it is not known.
        last: the time before, in seconds; None before the first.
        begin: the day on which the current year began, since 1970; or the day of a clock.
        leap: whether the current year has a February 29.

    Example:
        >>> calendar = Calendar(2025)
        >>> calendar.dated(1, 1, 0.0) - calendar.begin_time
        0.0
        >>> day = Calendar()
        >>> [day.of_day(time) for time in (86399.0, 1.0)]
        [86399.0, 86401.0]
    """

    year: int | None = None
    last: float | None = None
    begin: int = 0
    leap: bool = False

    def __post_init__(self):
        if self.last is None and not self.begin:
            self.start(self.year)

    def start(self, year: int | None) -> None:
        """Begin at January 1 of a year."""
        self.begin = date(year or UNKNOWN_YEAR, 1, 1).toordinal() - EPOCH_DAY
        self.leap = year is not None and _is_leap(year)

    @property
    def begin_time(self) -> float:
        """The first second of the current year."""
        return float(self.begin * DAY)

    def dated(self, month: int, day: int, second: float) -> float:
        """The time of a date without a year; the year goes on by one where the date goes back by half a year.

        Args:
            month, day: of the date.
            second: of the day.

        Raises:
            ValueError: there is no such date.
            LiquidError: it is February 29, and the user gave another year.
        """
        if not (1 <= month <= 12 and 1 <= day <= LENGTHS[month - 1]):
            raise ValueError(f"{month}-{day} is not a date")
        time = self._time(month, day, second)
        if self.last is not None and time < self.last - HALF_YEAR:
            self._next_year()
            time = self._time(month, day, second)
        elif self.last is not None and month == 12 and time > self.last + HALF_YEAR:
            before = time - DAY * (365 + _is_leap(self._number() - 1) * (self.year is not None))
            if before >= self.last - LATE_DAY:  # a late line of the year before
                return before
        if (month, day) == (2, 29) and not self.leap:
            if self.year is not None:
                raise LiquidError(f"there is no February 29 in {self._number()}: give another --year")
            self.leap = True
        self.last = time if self.last is None else max(self.last, time)
        if time < self.last - LATE_DAY:  # the clock was set back
            self.last = time
        return time

    def _time(self, month: int, day: int, second: float) -> float:
        days = self.begin + STARTS[month - 1] + (self.leap and month > 2) + day - 1
        return days * DAY + second

    def _number(self) -> int:
        """The current year."""
        return date.fromordinal(self.begin + EPOCH_DAY).year

    def _next_year(self) -> None:
        self.begin += 365 + self.leap
        self.leap = self.year is not None and _is_leap(self._number())

    def of_day(self, second: float) -> float:
        """The time of a clock without a date, in seconds since the first day began.

        The next day begins where the clock goes back by more than half a day.

        Args:
            second: of the day, or since the beginning.
        """
        if self.last is None or second >= DAY:  # the hours go on: a clock since the beginning
            self.begin = 0
        time = self.begin * DAY + second
        if self.last is not None and time < self.last - HALF_DAY:
            self.begin += 1
            time += DAY
        elif self.last is not None and self.begin and time - DAY >= self.last - LATE:
            return time - DAY  # a late line of the day before
        self.last = time
        return time


def _is_leap(year: int) -> bool:
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
