"""CSV and TSV ▶ records by the names, or the numbers, of their columns."""

import csv
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from ..errors import LiquidError
from .field_names import TEXT_NAMES, TIME_NAMES, Record, usual_paths
from .field_values import FieldClock, check_clock
from .number_times import FIRST, as_number
from .reading import ReadingOptions

CSV_SUFFIXES = (".csv", ".tsv")
RETURN = "\ufdd0"
"""Stands for a carriage return within a line, which csv would take for the end of a row. No text has this
character."""
SEPARATORS = ",;\t|"
SEPARATOR_LINE = re.compile(r'"?sep=([,;\t|])"?\r?')
"""The first line of a table that Excel is to read."""
HEAD = 200
"""Rows by which separator, header and columns are found."""


class Row(NamedTuple):
    """A row of a table, and the number of the line where it begins."""

    number: int
    cells: list[str]


class Table(NamedTuple):
    """The records of a file.

    Attributes:
        records: each with the number of its line.
        options: as the user gave them, with the names of the columns that have time and text.
    """

    records: Iterator[tuple[int, Record]]
    options: ReadingOptions


class Columns(NamedTuple):
    """How the rows of a table are read.

    Attributes:
        separator: between two cells.
        names: of the columns; those without a name are numbers, from 0.
        header: the cells of the first row, if it has the names; None: it is a row as the others.
        options: as the user gave them, with the names of the columns that have time and text.
    """

    separator: str
    names: list[str]
    header: list[str] | None
    options: ReadingOptions

    @classmethod
    def settle(cls, rows: Sequence[Row], separator: str, options: ReadingOptions) -> "Columns":
        """The columns of a table.

        Args:
            rows: the first rows.
            separator: between two cells.
            options: what the user says about the table.
        """
        rows = _with_whole_header(rows)
        width = len(rows[0].cells) if rows else 0
        time = _time_column(rows, options, width)
        found = _names(rows, options, time, width)
        names = found or [str(number) for number in range(width)]
        header = None if found is None else rows[0].cells
        return cls(separator, names, header, _with_columns(names, options, time))

    def record(self, row: Row, name: str) -> Record:
        """The record of a row; `name` stands for the file in the message of an error.

        Raises:
            LiquidError: the row has another number of cells.
        """
        if len(row.cells) != len(self.names):
            raise LiquidError(
                f"{name}, line {row.number}: {len(row.cells)} cells, but the first row has {len(self.names)};"
                ' put a cell that contains the separator between " and "'
            )
        return dict(zip(self.names, row.cells, strict=True))


def _with_whole_header(rows: Sequence[Row]) -> Sequence[Row]:
    """The rows; numbers stand for names that the first one lacks, as that of Windows' event viewer does.

    If it has a name for the text, more cells come from separators in the text: an error.
    """
    widths = {len(row.cells) for row in rows[1:]}
    cells = rows[0].cells if rows else []
    if len(widths) != 1 or usual_paths([dict.fromkeys(cells, "")], TEXT_NAMES):
        return rows
    more = map(str, range(len(cells), widths.pop()))
    return [rows[0]._replace(cells=[*cells, *more]), *rows[1:]]


def csv_table(lines: Iterable[str], suffix: str, options: ReadingOptions, name: str) -> Table:
    """The records of a table. A first row without a time has the names of the columns.

    >>> table = csv_table(["moment;what", "2026-01-31 12:00:00;on"], ".csv", ReadingOptions(), "a.csv")
    >>> next(table.records), table.options.time_field, table.options.text_field
    ((2, {'moment': '2026-01-31 12:00:00', 'what': 'on'}), 'moment', 'what')

    Args:
        lines: of the file, without their line breaks.
        suffix: ``.tsv`` has tabs; for others the separator is found.
        options: what the user says about the file. A column without a name is its number, from 0.
        name: stands for the file in the message of an error.

    Raises:
        LiquidError: the file is not CSV, or its rows have different numbers of cells.
    """
    lines = iter(lines)
    first = list(itertools.islice(lines, HEAD))
    told = SEPARATOR_LINE.fullmatch(first[0]) if first else None
    first = first[1:] if told else first
    separator = told[1] if told else "\t" if suffix == ".tsv" else find_separator(first)
    rows = csv_rows(itertools.chain(first, lines), separator, name, 2 if told else 1)
    head = list(itertools.islice(rows, HEAD))
    columns = Columns.settle(head, separator, options)
    head = head if columns.header is None else head[1:]
    return Table(
        ((row.number, columns.record(row, name)) for row in itertools.chain(head, rows)), columns.options
    )


def csv_rows(lines: Iterable[str], separator: str, name: str, first: int = 1) -> Iterator[Row]:
    """The rows that are not empty.

    Args:
        lines: without their line breaks.
        separator: between two cells.
        name: stands for the file in the message of an error.
        first: the number of the first line.

    Raises:
        LiquidError: they are not CSV.
    """
    whole = (line.removesuffix("\r").replace("\r", RETURN) + "\n" for line in lines)
    reader = csv.reader(whole, delimiter=separator, strict=True)
    number = first
    try:
        for cells in reader:
            if cells:
                yield Row(number, [cell.replace(RETURN, "\r") for cell in cells])
            number = first + reader.line_num
    except csv.Error as error:
        raise LiquidError(f"{name}, line {number}: not CSV ({error})") from error


def find_separator(lines: Sequence[str]) -> str:
    """The separator that divides the first rows into the most cells, all into as many.

    At most HEAD lines are given. Fewer are all whole rows.

    >>> find_separator(["time;text, in words", "1;on"])
    ';'
    """
    # The last line may be a part of a row, if there are many, and a mistake, if there are few.
    for part in [lines[:-1]] if len(lines) >= HEAD else [lines, lines[:-1]]:
        best = max(SEPARATORS, key=partial(_width, part))
        if _width(part, best) > 1:
            return best
    return SEPARATORS[0]


def _width(lines: Sequence[str], separator: str) -> int:
    """The number of cells of every row; 0 if they have different numbers, or are not CSV."""
    shown = (line.replace("\r", " ") + "\n" for line in lines)
    try:
        counts = {len(cells) for cells in csv.reader(shown, delimiter=separator) if cells}
    except csv.Error:
        return 0
    return counts.pop() if len(counts) == 1 else 0


def _time_column(rows: Sequence[Row], options: ReadingOptions, width: int) -> int | None:
    """The number of the column that has dates from the second row on; None if its name must tell."""
    asked = options.time_field or ""
    if asked.isdigit() and int(asked) < width:
        return int(asked)
    if asked:
        return None
    for number in range(width):
        values = [row.cells[number] for row in rows[1:] or rows if number < len(row.cells)]
        numbers = [found for value in values if (found := as_number(value)) is not None]
        if all(found >= FIRST for found in numbers) and _clock(values, options) is not None:
            return number
    return None


def _clock(values: Sequence[str], options: ReadingOptions) -> FieldClock | None:
    """The clock of a column; None if it has no times."""
    try:
        clock = FieldClock.settle(values, options.clock, "", "the column")
        check_clock(clock, values)
    except (ValueError, OverflowError):
        return None
    return clock


def _names(rows: Sequence[Row], options: ReadingOptions, time: int | None, width: int) -> list[str] | None:
    """The names in the first row; None if it is a row as the others."""
    if not rows:
        return None
    cells, asked = rows[0].cells, (options.time_field, options.text_field)
    names = [
        cell.strip() if cell.strip() not in ("", *cells[:at]) else str(at) for at, cell in enumerate(cells)
    ]
    if any(field is not None and not field.isdigit() for field in asked):
        return names
    record: Record = dict.fromkeys(names, "")
    if time is None:
        return names if usual_paths([record], TIME_NAMES) else None
    if len(rows) == 1:
        return None
    clock = _clock([row.cells[time] for row in rows[1:] if time < len(row.cells)], options)
    try:
        if clock is not None:
            clock.seconds(cells[time])
            return None
    except (ValueError, OverflowError):
        pass
    return names


def _with_columns(names: list[str], options: ReadingOptions, time: int | None) -> ReadingOptions:
    """The options with the names of columns in place of numbers, and with the columns that are clear."""

    def named(field: str | None) -> str | None:
        is_number = field is not None and field.isdigit() and field not in names and int(field) < len(names)
        return names[int(field)] if is_number and field is not None else field

    columns: Record = dict.fromkeys(names, "")
    usual = usual_paths([columns], TIME_NAMES)
    found = named(options.time_field) or (None if time is None or usual else names[time])
    text = named(options.text_field)
    if text is None and not usual_paths([columns], TEXT_NAMES):
        others = [name for name in names if name != (found or usual[0][0] if usual else found)]
        text = others[0] if len(others) == 1 else None
    return replace(options, time_field=found, text_field=text)
