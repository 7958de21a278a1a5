"""Reading a log: bytes become lines, and lines become text with times for the model."""

import codecs
from dataclasses import dataclass
from typing import NamedTuple

from ..errors import LiquidError
from ..text.clocks import find_stamp

MAX_CHARACTERS = 16_384
"""A longer line is read in parts of this many characters."""
LATE = 60.0
"""A line may be late by this many seconds. A time further back means that the clock was reset."""
UNTIMED = 100
"""A log with times may begin with this many lines that have none."""


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
    """Cuts a stream of bytes into lines. Bytes that are not UTF-8 become U+FFFD.

    The result does not depend on how the stream is divided into calls. A line of more than MAX_CHARACTERS
    characters is cut into parts.

    Example:
        >>> cutter = LineCutter()
        >>> [part.text for part in cutter.push(b"one\\ntw")]
        ['one']
        >>> [part.text for part in cutter.push(b"o", final=True)]
        ['two']
    """

    def __init__(self):
        self._utf8 = codecs.getincrementaldecoder("utf-8-sig")("replace")
        self._rest, self._begins = "", True

    def push(self, data: bytes, final: bool = False) -> list[LinePart]:
        """The lines, and parts of lines, that `data` completes.

        Args:
            data: the next bytes of the stream.
            final: whether the stream ends here. Then the last line needs no line break.
        """
        *lines, self._rest = (self._rest + self._utf8.decode(data, final)).split("\n")
        parts = [part for line in lines for part in self._cut(line, ends=True)]
        if final and (self._rest or not self._begins):
            line, self._rest = self._rest, ""
            return parts + self._cut(line, ends=True)
        return parts + self._cut(self._rest, ends=False)

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
        time: of that token, in seconds; None before the first line and in a log without times.
        begun: whether there was a line.
        kind: the kind of time that the lines begin with, a number of `text.clocks`; None before the first.
        ahead: seconds that are added to the lines' times since the clock was reset.
        empty: whether the current event has no text yet.
        blank: empty lines held back. They count if the event goes on after them, as in training.
        untimed: lines without a time before the first line with one.
    """

    pending: int
    time: float | None = None
    begun: bool = False
    kind: int | None = None
    ahead: float = 0.0
    empty: bool = True
    blank: int = 0
    untimed: int = 0

    def put(self, part: LinePart, timed: bool) -> str:
        """Move past a line; returns the text that it adds for the model.

        Args:
            part: the next line, or the next part of one.
            timed: whether the log has times.

        Raises:
            LiquidError: none of the first UNTIMED lines of a log with times has a time.
        """
        return self._put_timed(part) if timed else self._put_untimed(part)

    def _put_untimed(self, part: LinePart) -> str:
        begun, self.begun = self.begun, True
        return f"\n{part.text}" if part.begins and begun else part.text

    def _put_timed(self, part: LinePart) -> str:
        line = part.text.rstrip("\r\n") if part.ends else part.text
        found = find_stamp(line, self.kind) if part.begins else None
        if found is not None:
            begun, self.begun = self.begun, True
            self.kind, self.time = found.kind, self._model_time(found.time)
            text, self.blank = line[found.end :], 0
            self.empty = not text
            return f"\n{text}" if begun else text
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

    def _model_time(self, time: float) -> float:
        """A line's time on the model's clock, which never goes back."""
        if self.time is None:
            return time
        if time + self.ahead < self.time - LATE:
            self.ahead = self.time - time
        return max(time + self.ahead, self.time)


def no_times() -> LiquidError:
    """The error for a log without times, given to a model that needs them."""
    return LiquidError(
        "the model was trained with times, and no line begins with one: begin the lines with a time such as"
        " 2026-01-31T12:00:00, [00:12:31] or 1700000000.5"
    )
