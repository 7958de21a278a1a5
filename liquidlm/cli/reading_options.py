"""The options that say how a text is read: its times, its fields, its bytes. Several commands have them."""

import sys
from collections.abc import Iterable
from typing import Annotated, Any, Literal

import typer

from ..errors import printable
from ..text.reading import ReadingOptions, reading_names
from ..text.reading_facts import ReadingFacts, reading_notes

TimeFormat = Annotated[
    str | None,
    typer.Option(
        metavar="FORMAT",
        help="How times are written: a strptime format such as `%d.%m.%y %H.%M`, or a regular expression"
        " with a group `time`. [default: found in the text]",
    ),
]
TimeZone = Annotated[
    str | None,
    typer.Option(
        metavar="ZONE",
        help="The time zone of times that do not name one: `Europe/Madrid`, `+01:00`. [default: UTC]",
    ),
]
Year = Annotated[
    int | None,
    typer.Option(help="The year of the first time, if the times have no year."),
]
TimeField = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="The field with the time, in JSON and CSV: `t.$date`, a column's number, or `date,time` for two."
        " [default: the usual names]",
    ),
]
TextField = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="The field with the text, in JSON and CSV. [default: the usual names]",
    ),
]
Late = Annotated[
    Literal["clamp", "error", "sort"] | None,
    typer.Option(
        help="What to do with a line that is earlier than the line before it. `clamp`: up to a minute"
        " earlier, it gets the time of the line before; more than a minute earlier, the clock was set, and"
        " times continue from there. `sort`: sort the lines of a file. `error`: stop. [default: clamp]",
    ),
]
Encoding = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="The encoding of the text: `latin-1`, … [default: UTF-8]"),
]
Errors = Annotated[
    Literal["strict", "replace"] | None,
    typer.Option(
        help="What to do with a wrong byte: `strict` stops with an error, `replace` puts � in its place."
        " [default: strict]",
    ),
]


def reading_options(context: typer.Context, kept: dict[str, Any] | None = None) -> ReadingOptions:
    """The options of a command: what the command line has, then what is kept, then the defaults.

    Args:
        context: of the command, with all parameters above.
        kept: what a model was trained with (`ReadingOptions.given`).

    Raises:
        LiquidError: a name is unknown.
    """
    names = reading_names()
    given = {name: v for name, v in context.params.items() if name in names and v is not None}
    named = given.keys() & {"time_field", "text_field"}
    return ReadingOptions.of(**{**(kept or {}), **given}, fields_of_model=not named)


def are_given(context: typer.Context) -> bool:
    """Whether the command line has one of the options above."""
    return any(context.params.get(name) is not None for name in reading_names())


def say_notes(found: Iterable[ReadingFacts]) -> None:
    """Print on standard error how files with times were read."""
    for note in reading_notes(found):
        print(printable(f"note: {note}"), file=sys.stderr)
