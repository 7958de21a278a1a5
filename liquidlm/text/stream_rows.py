"""Rows of CSV that come one by one ▶ events. The first line has the names of the columns."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from ..errors import LiquidError
from .csv_records import Columns, Row, csv_rows, find_separator
from .event_files import TextEvent
from .field_names import TIME_NAMES, Record, usual_paths
from .field_values import FieldClock
from .reading import ReadingOptions
from .record_fields import ROW, RecordFields


class Header(NamedTuple):
    """The first line of a table, when no row has come yet."""

    line: str

    @property
    def kind(self) -> str:
        """What is known of the table, in words."""
        return "CSV"

    def find(self, line: str, where: str) -> TextEvent | None:
        """No event."""

    def skips(self, line: str) -> bool:
        """Whether the line is this header."""
        return line == self.line

    def is_whole(self, text: str) -> bool:
        """Whether the text is a row that has ended."""
        return _is_whole(text, find_separator([self.line]))

    def state(self) -> dict[str, Any]:
        """For a file of JSON."""
        return {"table": {"header": self.line}}


class RowFinder(NamedTuple):
    """Finds the events of a table's rows.

    Attributes:
        separator: between two cells.
        names: of the columns.
        header: the cells of the line with the names; None: there was none.
        fields: which columns have time and text.
    """

    separator: str
    names: list[str]
    header: list[str] | None
    fields: RecordFields

    @property
    def kind(self) -> str:
        """The columns and the kind of times, in words."""
        return f"CSV, {self.fields.name}"

    def find(self, line: str, where: str) -> TextEvent | None:
        """The event of a row; None for an empty line.

        Raises:
            LiquidError: the row has another number of cells, or no time or text; the message begins with
                `where`, which ends with the number of the line.
        """
        name, _, number = where.rpartition(", line ")
        for row in csv_rows(line.split("\n"), self.separator, name, int(number)):
            record = Columns(self.separator, self.names, None, ReadingOptions()).record(row, name)
            return TextEvent(*self.fields.event(record, where))
        return None

    def skips(self, line: str) -> bool:
        """Whether the line is the header, which comes again at the beginning of a new file."""
        return self.header is not None and self.header == _cells(line, self.separator)

    def is_whole(self, text: str) -> bool:
        """Whether the text is a row that has ended. A cell between quotes can have line breaks."""
        return _is_whole(text, self.separator)

    def state(self) -> dict[str, Any]:
        """For a file of JSON."""
        of_columns = {"separator": self.separator, "names": self.names, "columns": self.fields.state()}
        return {"table": {"header": self.header, **of_columns}}


Table = Header | RowFinder


def settle_table(lines: Sequence[str], options: ReadingOptions, name: str) -> Table | None:
    r"""What finds the events of a table, settled on its first lines; None if they are not a table.

    The user names columns, or one of the names in the first line is usual for a time.

    >>> table = settle_table(["time,message", '1,"on, and', 'off"'], ReadingOptions(), "the log")
    >>> table.is_whole('2,"on') or table.find('2,"on\noff"', "the log, line 4")
    TextEvent(time=2.0, text='on\noff')

    Args:
        lines: the first lines.
        options: what the user says about the stream. A column is a name or a number, from 0.
        name: stands for the stream in the message of an error.

    Raises:
        LiquidError: it is a table, and its columns of time and text are not clear.
    """
    asked = [field for field in (options.time_field, options.text_field) if field is not None]
    separator = find_separator(lines) if lines else ""
    first = _cells(lines[0], separator) if lines else []
    if len(first) < 2:
        return None
    if asked and options.fields_of_model:
        if not all(_has(first, field) for field in asked):
            return None
    elif asked:
        _check_columns(first, asked, name)
    elif not _has_names(first):
        return None
    rows = list(_whole_rows(lines, separator, name))
    columns = Columns.settle(rows, separator, options)
    rows = rows if columns.header is None else rows[1:]
    if not rows or (len(lines) == 1 and not _has_time(rows[0], columns)):
        return Header(lines[0])
    records = [columns.record(row, name) for row in rows]
    fields = RecordFields.settle(records, columns.options, name, rows[0].number, ROW)
    return RowFinder(separator, columns.names, columns.header, fields)


def restored_table(state: dict[str, Any]) -> Table:
    """The finder with the entry "table" of a state.

    >>> table = settle_table(["time,message"], ReadingOptions(), "the log")
    >>> restored_table(table.state()["table"]) == table
    True
    """
    if "columns" not in state:
        return Header(state["header"])
    fields = replace(RecordFields.restore(state["columns"]), rule=ROW)
    return RowFinder(state["separator"], state["names"], state["header"], fields)


def _has_names(cells: list[str]) -> bool:
    """Whether the cells are names of columns, and one is usual for a time."""
    record: Record = {cell.strip(): "" for cell in cells}
    return len(record) == len(cells) and bool(usual_paths([record], TIME_NAMES))


def _has(cells: list[str], field: str) -> bool:
    """Whether there is a column of this name or number; a comma joins several."""
    names = {cell.strip() for cell in cells} | {str(number) for number in range(len(cells))}
    return field in names or all(each.strip() in names for each in field.split(","))


def _has_time(row: Row, columns: Columns) -> bool:
    """Whether the cell for the time has one, in a row that may have names."""
    field = columns.options.time_field
    if field not in columns.names:
        return True
    try:
        value = row.cells[columns.names.index(field)]
        FieldClock.settle([value], columns.options.clock, "", "the column").seconds(value)
    except (ValueError, OverflowError):
        return False
    return True


def _check_columns(cells: list[str], asked: list[str], name: str) -> None:
    """LiquidError for a column that is not there."""
    for field in asked:
        if not _has(cells, field):
            raise LiquidError(
                f"{name}: there is no column {field} in its first line, only"
                f" {', '.join(cell.strip() for cell in cells[:12])}; begin with the line of names (tail -n +1"
                " -f), or give the number of the column, from 0"
            )


def _whole_rows(lines: Sequence[str], separator: str, name: str) -> Iterator[Row]:
    """The rows that have ended; the last one may not have."""
    whole, number = "", 1
    for line in lines:
        whole += line
        if _is_whole(whole, separator):
            yield from csv_rows(whole.split("\n"), separator, name, number)
            number, whole = number + whole.count("\n") + 1, ""
        else:
            whole += "\n"


def _cells(line: str, separator: str) -> list[str]:
    """The cells of a row; none of an empty one, or of a row that is not CSV."""
    try:
        return next((row.cells for row in csv_rows(line.split("\n"), separator, "")), [])
    except LiquidError:
        return []


def _is_whole(text: str, separator: str) -> bool:
    """Whether no cell of the text is open: a quote begins one only at its beginning."""
    try:
        for _ in csv.reader(
            [f"{line}\n" for line in text.replace("\r", "").split("\n")], delimiter=separator, strict=True
        ):
            pass
    except csv.Error as error:
        return "unexpected end" not in str(error)  # any other error is reported when the row is read
    return True
