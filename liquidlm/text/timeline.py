"""Times that go back ▶ times that do not: one policy for every reader of text with times."""

from dataclasses import dataclass

from ..errors import LiquidError

LATE = 60.0
"""A line may be late by this many seconds. A time further back means that the clock was set back."""


@dataclass
class Timeline:
    """Puts the times of events on a clock that never goes back, and counts what it changes.

    With the policy "clamp", a time up to LATE seconds back is taken as the time of the event before it. A
    time further back means that the clock was set back: the gap there is 0, and times go on from the time
    before.
    With "error", every time that goes back is an error. With "sort", times stay as they are and are counted;
    the reader sorts the events.

    Attributes:
        time: of the last event, in seconds; None before the first.
        ahead: seconds that are added to the times since the clock was set back.
        late, first_late: the number of late events, and the number of the first one's line.
        set_back, first_set_back: how often the clock was set back, and the number of the first such line.

    Example:
        >>> timeline = Timeline()
        >>> [timeline.place(time, line) for line, time in enumerate([100.0, 105.0, 104.0, 9.0, 10.0], 1)]
        [100.0, 105.0, 105.0, 105.0, 106.0]
        >>> timeline.late, timeline.first_late, timeline.set_back, timeline.first_set_back
        (1, 3, 1, 4)
    """

    time: float | None = None
    ahead: float = 0.0
    late: int = 0
    first_late: int = 0
    set_back: int = 0
    first_set_back: int = 0

    def place(self, time: float, number: int, policy: str = "clamp", name: str = "the text") -> float:
        """The time of the next event on the clock that never goes back.

        Args:
            time: as the event has it, in seconds.
            number: of its line.
            policy: "clamp", "error" or "sort" (see the class).
            name: stands for the file in the message of an error.

        Raises:
            LiquidError: the policy is "error", and the time goes back. The message names the line.
        """
        moved = time + self.ahead
        if self.time is None or moved >= self.time:
            self.time = moved
        elif policy == "error":
            raise LiquidError(
                f"{name}, line {number}: the time goes back, from {self.time:.15g} to {time:.15g} s; take it"
                " as it is with --late clamp, or sort the lines with --late sort"
            )
        elif policy == "sort" or moved >= self.time - LATE:
            self.late, self.first_late = self.late + 1, self.first_late or number
        else:
            self.ahead = self.time - time
            self.set_back, self.first_set_back = self.set_back + 1, self.first_set_back or number
        return time if policy == "sort" else self.time

    def begin(self) -> None:
        """Begin another document: its times have nothing to do with those before. The counts go on."""
        self.time, self.ahead = None, 0.0

    def notes(self, policy: str = "clamp") -> dict[str, str]:
        """What was changed, in words, by "late" and "set_back"; nothing if no time went back.

        Args:
            policy: the one that was used.

        Example:
            >>> Timeline(late=2, first_late=7).notes()["late"]
            '2 late lines, the first is line 7: taken at the time of the line before (--late clamp)'
        """
        said: dict[str, str] = {}
        if self.late:
            lines = "1 late line, line" if self.late == 1 else f"{self.late:,} late lines, the first is line"
            done = (
                "sorted (--late sort)"
                if policy == "sort"
                else ("taken at the time of the line before (--late clamp)")
            )
            said["late"] = f"{lines} {self.first_late}: {done}"
        if self.set_back:
            lines = "once, in line" if self.set_back == 1 else f"{self.set_back:,} times, first in line"
            said["set_back"] = (
                f"the clock was set back {lines} {self.first_set_back}: times go on from the line before"
                " (--late clamp; --late sort sorts the lines)"
            )
        return said
