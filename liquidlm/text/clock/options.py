"""What a user says about the times of a file, in place of what its lines show."""

from dataclasses import dataclass

from ...errors import LiquidError


@dataclass(frozen=True)
class ClockOptions:
    """How the times of a file are written. What is None is found in the file itself.

    Attributes:
        time_format: words of `strptime`, or a regular expression with a group `time`.
        time_zone: the zone of times without one, such as ``Europe/Madrid`` or ``+01:00``; None: UTC.
        year: the year of the first time, if the times have no year.

    Raises:
        LiquidError: one of them is not known.

    Example:
        >>> ClockOptions(time_zone="Europe/Madrid").time_zone
        'Europe/Madrid'
    """

    time_format: str | None = None
    time_zone: str | None = None
    year: int | None = None

    def __post_init__(self):
        if self.time_format is not None:
            from .formats import check_format  # not needed for --help

            check_format(self.time_format)
        if self.time_zone is not None:
            from .zones import given_zone

            given_zone(self.time_zone)
        if self.year is not None and not 1 <= self.year <= 9999:
            raise LiquidError(f"--year must be from 1 to 9999, not {self.year}")
