"""Parts of lines ▶ whole records: long lines of JSON, and rows of CSV over several lines."""

from collections.abc import Sequence

from ..text.stream_events import Finder, RecordFinder
from ..text.stream_rows import Header, RowFinder
from .line_cutter import LinePart

LONGEST = 131_072
"""Characters of a record. A longer one is not joined."""


class WholeRecords:
    r"""Holds the beginning of a record back until the record has ended.

    Example:
        >>> from liquidlm.text.stream_rows import Header
        >>> records, finder = WholeRecords(), Header("time,text")
        >>> records.join([LinePart('1,"on'), LinePart('and off"')], finder)
        [LinePart(text='1,"on\nand off"', begins=True, ends=True, lines=2)]
    """

    def __init__(self):
        self._text, self._lines = "", 0

    def copy(self) -> "WholeRecords":
        """Another with the same beginning."""
        other = WholeRecords()
        other._text, other._lines = self._text, self._lines
        return other

    def join(self, parts: Sequence[LinePart], finder: Finder | None, final: bool = False) -> list[LinePart]:
        """The parts, joined to whole records.

        Args:
            parts: the next ones.
            finder: of the stream's events; None: not known yet.
            final: whether the stream ends here. Then the beginning of a record is given as it is.
        """
        found: list[LinePart] = []
        for part in parts:
            if not self._lines and part.begins and part.ends and _is_whole(part.text, finder):
                found.append(part)
            elif self._lines or (part.begins and _is_record(part.text, finder)):
                self._add(part)
                can_end = self._lines == 1 or '"' in part.text  # a line without " closes no cell
                if (part.ends and can_end and _is_whole(self._text, finder)) or len(self._text) > LONGEST:
                    found.append(self._taken(part.ends))
                elif part.ends:
                    self._text += "\n"
            else:
                found.append(part)
        if final and self._lines:
            self._text = self._text.removesuffix("\n")
            found.append(self._taken(ends=True))
        return found

    def _add(self, part: LinePart) -> None:
        self._text += part.text
        self._lines += part.lines if part.begins else 0

    def _taken(self, ends: bool) -> LinePart:
        part = LinePart(self._text, True, ends, self._lines)
        self._text, self._lines = "", 0
        return part


def _is_record(text: str, finder: Finder | None) -> bool:
    """Whether a record may begin with this text."""
    if isinstance(finder, Header | RowFinder):
        return True
    return (finder is None or isinstance(finder, RecordFinder)) and text.lstrip().startswith("{")


def _is_whole(text: str, finder: Finder | None) -> bool:
    """Whether a text that ends with a line is a record that has ended."""
    return not isinstance(finder, Header | RowFinder) or finder.is_whole(text)
