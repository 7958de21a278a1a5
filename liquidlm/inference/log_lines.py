"""Reading a log: bytes become lines, and lines become text with times for the model."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

from ..errors import LiquidError
from ..text.clock.line_clock import NoTimesError
from ..text.event_files import UNTIMED, TextEvent
from ..text.reading import ReadingOptions
from ..text.stream_events import Finder, restored_finder, settle_finder
from ..text.stream_rows import Header, RowFinder
from ..text.timeline import Timeline
from .line_cutter import MAX_CHARACTERS, NAME, LinePart
from .whole_records import WholeRecords

EARLIER_NAMES = {"anew": "set_back", "first_anew": "first_set_back"}
"""Fields of `Timeline` under the names of earlier state files, and their names now."""


def _renamed(timeline: dict[str, Any]) -> dict[str, Any]:
    return {EARLIER_NAMES.get(name, name): value for name, value in timeline.items()}


@dataclass
class LogPosition:
    """Where a reader stands in a log: what it needs beside the state of the model. State files hold it.

    Attributes:
        pending: id of the last token. The model reads it together with the next one.
        options: what the user says about the log.
        timeline: the time of the last token, and what was done with times that went back.
        finder: finds the times of lines; None before the first line with a time.
        number: of the last line.
        begun: whether there was a line (in a log with times: one with a time).
        empty: whether the current event has no text yet.
        blank: empty lines held back. They count if the event goes on after them, as in training.
        untimed: lines without a time before the first line with one.
    """

    pending: int
    options: ReadingOptions = field(default_factory=ReadingOptions)
    timeline: Timeline = field(default_factory=Timeline)
    finder: Finder | None = None
    number: int = 0
    begun: bool = False
    empty: bool = True
    blank: int = 0
    untimed: int = 0

    def __post_init__(self):
        self._records = WholeRecords()

    @property
    def time(self) -> float | None:
        """Of the last token, in seconds; None before the first line and in a log without times."""
        return self.timeline.time

    def as_dict(self) -> dict[str, Any]:
        """The position for a file of JSON, and for `restore`."""
        names = ("pending", "number", "begun", "empty", "blank", "untimed")
        simple = {name: getattr(self, name) for name in names}
        finder = None if self.finder is None else self.finder.state()
        timeline = asdict(self.timeline)
        options = {**self.options.given(), "errors": self.options.errors}
        return {**simple, "options": options, "timeline": timeline, "finder": finder}

    @classmethod
    def restore(cls, state: dict[str, Any], options: ReadingOptions | None = None) -> "LogPosition":
        """The position that was kept.

        Args:
            state: of `as_dict`, or of an earlier version's state file.
            options: what the user says about the log now; None: what is kept. With other options the kind of
                times is settled again.
        """
        if "timeline" not in state:  # of an earlier version: the kind of times was the number of a pattern
            timeline = {"time": state["time"], "ahead": state["ahead"]}
            state = {name: value for name, value in state.items() if name not in ("time", "ahead", "kind")}
            state = {**state, "options": {}, "timeline": timeline, "finder": None}
        kept = ReadingOptions.of(**{"errors": "replace", **state["options"]})  # earlier versions replaced
        options = kept if options is None else options
        finder = state["finder"] if options == kept else None
        found = {
            "options": options,
            "timeline": Timeline(**_renamed(state["timeline"])),
            "finder": None if finder is None else restored_finder(finder),
        }
        return cls(**{**state, **found})

    def notes(self) -> dict[str, str]:
        """How times are written ("kind"), and what was done with late ones ("late", "set_back")."""
        kind = {} if self.finder is None else {"kind": self.finder.kind}
        return {**kind, **self.timeline.notes()}

    def records(self, parts: Sequence[LinePart], final: bool = False) -> list[LinePart]:
        """The next lines of a log with times, for `put`. A record of several lines, or parts, is one part.

        How times are written is settled on these lines, if it is not yet known.

        Args:
            parts: the next lines, and parts of lines.
            final: whether the log ends here. Else the beginning of a record is held back.

        Raises:
            LiquidError: the kind of their times is not clear.
        """
        parts = self._records.join(parts, self.finder, final)
        if self.finder is None or isinstance(self.finder, Header):
            self._settle(parts)
            parts = self._records.join(parts, self.finder, final)
        return parts

    def _settle(self, parts: Sequence[LinePart]) -> None:
        lines = [part.text.rstrip("\r") for part in parts if part.begins and part.text.strip()]
        if not lines:
            return
        if isinstance(self.finder, Header):
            lines = [self.finder.line, *(line for line in lines if not self.finder.skips(line))]
        with suppress(NoTimesError):  # the first lines may have none, such as a title
            self.finder = settle_finder(lines, self.options, NAME)

    def copy(self) -> "LogPosition":
        """The same position, with the beginning of a record that is held back."""
        other = LogPosition.restore(self.as_dict())
        other._records = self._records.copy()
        return other

    def put(self, part: LinePart, timed: bool) -> str:
        """Move past a line; returns the text that it adds for the model.

        Args:
            part: the next line, or the next part of one.
            timed: whether the log has times.

        Raises:
            LiquidError: none of the first UNTIMED lines of a log with times has a time; or a time goes back,
                and that is to be an error.
        """
        self.number += part.begins
        text = self._put_timed(part) if timed else self._put_untimed(part)
        self.number += part.lines - 1
        return text

    def _put_untimed(self, part: LinePart) -> str:
        begun, self.begun = self.begun, True
        return f"\n{part.text}" if part.begins and begun else part.text

    def _put_timed(self, part: LinePart) -> str:
        line = part.text.rstrip("\r\n") if part.ends else part.text
        if isinstance(self.finder, Header | RowFinder) and part.begins and self.finder.skips(line):
            return ""
        found = self._found(line) if part.begins else None
        if found is not None:
            begun, self.begun = self.begun, True
            self.timeline.place(found.time, self.number, self.options.late, NAME)
            self.blank, self.empty = 0, not found.text
            return f"\n{found.text}" if begun else found.text
        if not self.begun:
            self.untimed += bool(line.strip())
            if self.untimed > UNTIMED:
                raise no_times()
            return ""
        if not line:
            self.blank = min(self.blank + 1, MAX_CHARACTERS)
            return ""
        before = "\n" * (self.blank + 1) if part.begins and not self.empty else ""
        self.empty, self.blank = False, 0
        return before + line

    def _found(self, line: str) -> TextEvent | None:
        """The event of a line, if it has a time."""
        return None if self.finder is None else self.finder.find(line, f"{NAME}, line {self.number}")


def no_times() -> LiquidError:
    """The error for a log without times, given to a model that needs them."""
    return LiquidError(
        "the model was trained with times, and no line begins with one: begin the lines with a time such as"
        " 2026-01-31T12:00:00, [00:12:31] or 1700000000.5"
    )
