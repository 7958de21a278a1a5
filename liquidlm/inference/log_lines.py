"""Reading a log: bytes become lines, and lines become text with times for the model."""

import codecs
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from ..errors import LiquidError
from ..text.event_files import UNTIMED, TextEvent
from ..text.reading import ReadingOptions
from ..text.stream_events import Finder, restored_finder, settle_finder
from ..text.timeline import Timeline
from ..text.utf8 import BYTE_ORDER_MARKS, marked_encoding

MAX_CHARACTERS = 16_384
"""A longer line is read in parts of this many characters."""
NAME = "the log"
"""Stands for the log in the messages of errors."""


class LinePart(NamedTuple):
    """A line, or a part of a very long line.

    Attributes:
        text: without the line break.
        begins, ends: whether the line begins, and ends, with this part.
    """

    text: str
    begins: bool = True
    ends: bool = True


class LineCutter:
    """Cuts a stream of bytes into lines.

    The result does not depend on how the stream is divided into calls. A line of more than MAX_CHARACTERS
    characters is cut into parts.

    Attributes:
        wrong: whether a byte was wrong in the encoding.

    Example:
        >>> cutter = LineCutter()
        >>> [part.text for part in cutter.push(b"one\\ntw")]
        ['one']
        >>> [part.text for part in cutter.push(b"o", final=True)]
        ['two']
    """

    def __init__(self, encoding: str | None = None, errors: str = "replace"):
        """A cutter at the beginning of a stream.

        Args:
            encoding: of its bytes; None: as a byte order mark says, or UTF-8.
            errors: "replace": a byte that is wrong in the encoding becomes U+FFFD; or "strict".
        """
        self._encoding, self._errors = encoding, errors
        self._decoder = None if encoding is None else codecs.getincrementaldecoder(encoding)("strict")
        self._head, self._rest, self._begins = b"", "", True
        self.wrong = False

    def push(self, data: bytes, final: bool = False) -> list[LinePart]:
        """The lines, and parts of lines, that `data` completes.

        Args:
            data: the next bytes of the stream.
            final: whether the stream ends here. Then the last line needs no line break.

        Raises:
            LiquidError: a byte is wrong, and that is to be an error.
        """
        *lines, self._rest = (self._rest + self._decoded(data, final)).split("\n")
        parts = [part for line in lines for part in self._cut(line, ends=True)]
        if final and (self._rest or not self._begins):
            line, self._rest = self._rest, ""
            return parts + self._cut(line, ends=True)
        return parts + self._cut(self._rest, ends=False)

    def _decoded(self, data: bytes, final: bool) -> str:
        """The text of the next bytes; none while they may be the beginning of a byte order mark."""
        if self._decoder is None:
            self._head, data = b"", self._head + data
            if not final and any(mark != data and mark.startswith(data) for mark, _ in BYTE_ORDER_MARKS):
                self._head = data
                return ""
            self._encoding = "utf-8-sig" if (found := marked_encoding(data)) == "utf-8" else found
            self._decoder = codecs.getincrementaldecoder(self._encoding)("strict")
        try:
            return self._decoder.decode(data, final)
        except UnicodeDecodeError as error:
            return self._replaced(data, final, error)

    def _replaced(self, data: bytes, final: bool, error: UnicodeDecodeError) -> str:
        """The text of bytes of which one is wrong."""
        assert self._decoder is not None
        assert self._encoding is not None
        what = "UTF-8" if self._encoding == "utf-8-sig" else self._encoding
        if self._errors == "strict":
            raise LiquidError(
                f"{NAME} is not {what} text: it has the byte 0x{error.object[error.start]:02x}; give"
                " --encoding, or --errors replace"
            ) from error
        self.wrong = True
        lenient = codecs.getincrementaldecoder(self._encoding)("replace")
        lenient.setstate(self._decoder.getstate())
        text = lenient.decode(data, final)
        self._decoder.setstate(lenient.getstate())
        return text

    def _cut(self, line: str, ends: bool) -> list[LinePart]:
        parts = []
        while len(line) > MAX_CHARACTERS:
            parts.append(LinePart(line[:MAX_CHARACTERS], self._begins, False))
            line, self._begins = line[MAX_CHARACTERS:], False
        if ends:
            parts.append(LinePart(line, self._begins, True))
            self._begins = True
        else:
            self._rest = line
        return parts


@dataclass
class LogPosition:
    """Where a reader stands in a log: what it needs beside the state of the model. State files hold it.

    Attributes:
        pending: id of the last token. The model reads it together with the next one.
        options: what the user says about the log.
        timeline: the time of the last token, and what became of times that went back.
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
                times is settled anew.
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
            "timeline": Timeline(**state["timeline"]),
            "finder": None if finder is None else restored_finder(finder),
        }
        return cls(**{**state, **found})

    def notes(self) -> dict[str, str]:
        """How the times are written ("kind"), and what became of those that went back ("late", "anew")."""
        kind = {} if self.finder is None else {"kind": self.finder.kind}
        return {**kind, **self.timeline.notes()}

    def settle(self, parts: Sequence[LinePart]) -> None:
        """Settle how times are written on the lines that come next, if it is not yet known.

        Raises:
            LiquidError: the kind of their times is not clear.
        """
        lines = [part.text.rstrip("\r") for part in parts if part.begins and part.text.strip()]
        if self.finder is not None or not lines:
            return
        try:
            self.finder = settle_finder(lines, self.options, NAME)
        except LiquidError as error:
            if "no time" not in str(error):
                raise

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
        return self._put_timed(part) if timed else self._put_untimed(part)

    def _put_untimed(self, part: LinePart) -> str:
        begun, self.begun = self.begun, True
        return f"\n{part.text}" if part.begins and begun else part.text

    def _put_timed(self, part: LinePart) -> str:
        line = part.text.rstrip("\r\n") if part.ends else part.text
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
