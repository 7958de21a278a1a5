"""The options that say how a text is read: its times, its fields, its bytes. Several commands have them."""

from typing import Annotated, Any, Literal

import typer

from ..text.reading import ReadingOptions

PANEL = "Reading the text"

TimeFormat = Annotated[
    str | None,
    typer.Option(
        metavar="FORMAT",
        rich_help_panel=PANEL,
        help="How times are written: words of strptime such as `%d.%m.%y %H.%M`, or a regular expression with"
        " a group `time`. [default: found in the text]",
    ),
]
TimeZone = Annotated[
    str | None,
    typer.Option(
        metavar="ZONE",
        rich_help_panel=PANEL,
        help="The zone of times that name none: `Europe/Madrid`, `+01:00`. [default: UTC]",
    ),
]
Year = Annotated[
    int | None,
    typer.Option(rich_help_panel=PANEL, help="The year of the first time, if the times have no year."),
]
TimeField = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        rich_help_panel=PANEL,
        help="The field with the time, in JSON and CSV: `t.$date`, a column's number, or `date,time` for two."
        " [default: the usual names]",
    ),
]
TextField = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        rich_help_panel=PANEL,
        help="The field with the text, in JSON and CSV. [default: the usual names]",
    ),
]
Late = Annotated[
    Literal["clamp", "error", "sort"] | None,
    typer.Option(
        rich_help_panel=PANEL,
        help="A time that goes back: `clamp` takes it at the time of the line before, or, over a minute back,"
        " as a clock that was set anew; `sort` sorts the lines of a file; `error` stops. [default: clamp]",
    ),
]
Encoding = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", rich_help_panel=PANEL, help="The encoding of the text: `latin-1`, … [default: UTF-8]"
    ),
]
Errors = Annotated[
    Literal["strict", "replace"] | None,
    typer.Option(rich_help_panel=PANEL, help="A wrong byte: an error, or � in its place. [default: strict]"),
]


def reading_options(kept: dict[str, Any] | None = None, **given: Any) -> ReadingOptions:
    """The options of a command: what is given, then what is kept, then the defaults.

    Args:
        kept: the fields that a model was trained with (`ReadingOptions.given`).
        given: the options of the command line by name; those that are None are not given.

    Raises:
        LiquidError: a name is unknown.
    """
    return ReadingOptions.of(**{**(kept or {}), **{name: v for name, v in given.items() if v is not None}})
