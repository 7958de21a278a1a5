"""What a user says about the times of a file, in place of what its lines show."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ClockOptions:
    """How the times of a file are written. What is None is found in the file itself.

    Attributes:
        time_format: words of `strptime`, or a regular expression with a group `time`.
        time_zone: the zone of times without one, such as ``Europe/Madrid`` or ``+01:00``; None: UTC.
        year: the year of the first time, if the times have no year.

    Example:
        >>> ClockOptions(time_zone="Europe/Madrid").time_zone
        'Europe/Madrid'
    """

    time_format: str | None = None
    time_zone: str | None = None
    year: int | None = None
