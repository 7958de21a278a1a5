"""Lines that come one by one ▶ events: what a reader of a stream needs, in place of `event_files`."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from .clock.line_clock import LineClock
from .event_files import TextEvent
from .json_records import is_json, parsed_object
from .reading import ReadingOptions
from .record_fields import RecordFields
from .stream_rows import Table, restored_table, settle_table


class LineFinder(NamedTuple):
    """Finds the events of a log's lines."""

    clock: LineClock

    @property
    def kind(self) -> str:
        """The kind of times, in words."""
        return self.clock.name

    def find(self, line: str, where: str) -> TextEvent | None:
        """The event of a line; None for a line without a time."""
        found = self.clock.find(line)
        return None if found is None else TextEvent(found.time, found.without(line))

    def state(self) -> dict[str, Any]:
        """For a file of JSON."""
        return {"lines": self.clock.state()}


class RecordFinder(NamedTuple):
    """Finds the events of lines of JSON."""

    fields: RecordFields

    @property
    def kind(self) -> str:
        """The fields and the kind of times, in words."""
        return f"JSON, {self.fields.name}"

    def find(self, line: str, where: str) -> TextEvent | None:
        """The event of a line; None for a line that is not a JSON object.

        Raises:
            LiquidError: the object has no time or no text; the message begins with `where`.
        """
        record = parsed_object(line)
        return None if record is None else TextEvent(*self.fields.event(record, where))

    def state(self) -> dict[str, Any]:
        """For a file of JSON."""
        return {"records": self.fields.state()}


Finder = LineFinder | RecordFinder | Table


def settle_finder(lines: Sequence[str], options: ReadingOptions, name: str) -> Finder:
    """What finds the events of a stream, settled on its first lines.

    >>> settle_finder(["[1] on"], ReadingOptions(), "the log").find("[2] off", "the log")
    TextEvent(time=2.0, text='off')

    Args:
        lines: the first lines.
        options: what the user says about the stream.
        name: stands for the stream in the message of an error.

    Raises:
        LiquidError: no line has a time, its kind is not clear, or fields are named and the lines have none.
    """
    if is_json(lines):
        records = [record for line in lines if (record := parsed_object(line)) is not None]
        return RecordFinder(RecordFields.settle(records, options, name))
    if (table := settle_table(lines, options, name)) is not None:
        return table
    options.refuse_fields(name, "a log of plain lines")
    return LineFinder(LineClock.settle(lines, options.clock, name))


def restored_finder(state: dict[str, Any]) -> Finder:
    """The finder with this state.

    >>> import json
    >>> finder = settle_finder(['{"ts": 1769860800123, "msg": "on"}'], ReadingOptions(), "the log")
    >>> again = restored_finder(json.loads(json.dumps(finder.state())))
    >>> again.find('{"ts": 1769860800500, "msg": "off"}', "")
    TextEvent(time=1769860800.5, text='off')
    """
    if "records" in state:
        return RecordFinder(RecordFields.restore(state["records"]))
    if "table" in state:
        return restored_table(state["table"])
    return LineFinder(LineClock.restore(state["lines"]))
