"""A stream of bytes ▶ its lines, wherever it is cut."""

import codecs
from typing import NamedTuple

from ..errors import LiquidError
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
        lines: number of lines; a row of a table can have several.
    """

    text: str
    begins: bool = True
    ends: bool = True
    lines: int = 1


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
