"""The clock of a file: the one kind of time that its lines have, settled on its first lines."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from ..errors import LiquidError
from .clock_options import ClockOptions
from .clocks import find_stamp, seconds

KINDS = ("date and time", "syslog, without a year", "a clock", "seconds since 1970") * 2
HOW = "begin the lines with a time such as 2026-01-31T12:00:00, [00:12:31] or 1700000000.5"


class Stamp(NamedTuple):
    """The time of a line.

    Attributes:
        time: in seconds.
        begin, end: what the time takes of the line.
    """

    time: float
    begin: int
    end: int

    def without(self, line: str) -> str:
        """The text of the line without its time."""
        return line[: self.begin] + line[self.end :]


class LineClock:
    """Finds the time of each line of a file.

    Attributes:
        name: the kind of time in words.

    Example:
        >>> clock = LineClock.settle(["[00:01:30] The door opens."], ClockOptions(), "door.log")
        >>> clock.find("[00:01:31] It is dark.")
        Stamp(time=91.0, begin=0, end=11)
    """

    def __init__(self, kind: int):
        self.kind, self.name = kind, f"times: {(*KINDS, *KINDS)[kind]}"

    @classmethod
    def settle(cls, lines: Sequence[str], options: ClockOptions, name: str) -> "LineClock":
        """The clock of the first kind of time that is found.

        Raises:
            LiquidError: no line has a time.
        """
        for line in lines:
            if found := find_stamp(line):
                return cls(found.kind)
        raise LiquidError(f"{name}, line 1: no time at its beginning; {HOW}")

    @classmethod
    def restore(cls, state: dict[str, Any]) -> "LineClock":
        """The clock with this state (see `state`)."""
        return cls(**state)

    def state(self) -> dict[str, Any]:
        """What `restore` needs, for a file of JSON."""
        return {"kind": self.kind}

    def find(self, line: str) -> Stamp | None:
        """The time of a line, or None."""
        found = find_stamp(line, self.kind)
        return None if found is None else Stamp(found.time, 0, found.end)

    def seconds(self, value: object) -> float:
        """The time of a field's value; raises ValueError if it is none."""
        return seconds(value)
