"""`liquidlm watch`: how surprising each line of a log is."""

from pathlib import Path
from typing import Annotated

import typer

from ..inference.defaults import ALARMS, WEIGHTS
from . import reading_options as reading
from .arguments import Folder, Weights

StateFile = Annotated[
    Path | None,
    typer.Option(
        metavar="F",
        help="Continue from this file if it exists. It is written every minute and at the end.",
    ),
]
Alarms = Annotated[
    float,
    typer.Option(
        help="Mark about so many lines per day while the log is as usual, by its own clock. Without times,"
        " a day is 100,000 lines."
    ),
]
Baseline = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="First read this log, in which all is normal, and learn what is usual. It is not printed. With a"
        " state that exists, it is not read again.",
    ),
]
OnlyMarked = Annotated[bool, typer.Option("--only-marked", help="Print only the marked lines.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")]


def watch(
    context: typer.Context,
    folder: Folder,
    state: StateFile = None,
    alarms: Alarms = ALARMS,
    baseline: Baseline = None,
    only_marked: OnlyMarked = False,
    as_json: AsJson = False,
    weights: Weights = WEIGHTS,
    time_format: reading.TimeFormat = None,
    time_zone: reading.TimeZone = None,
    year: reading.Year = None,
    time_field: reading.TimeField = None,
    text_field: reading.TextField = None,
    late: reading.Late = None,
    encoding: reading.Encoding = None,
    errors: reading.Errors = None,
) -> None:
    """Read a log continuously, and print how surprising each line is.

    The command reads standard input in constant memory. It prints each line at once, with its surprise in
    bits. ▲ marks an unusual line and says what it is: a new kind of line, a burst, a silence, slow, unusual
    text. A model trained with --timestamps also reads the time of each line. Then the command also prints
    how unlikely the gap before the line was, in bits. Times are read as in training, and so are lines of
    JSON. The exit code is 0 if no line was marked, 1 if one was, and 2 after an error.

        tail -f server.log | liquidlm watch runs/log --state log.state
    """
    from ..inference.reading_file import kept_reading
    from .watch_lines import watch_lines

    kept = {name: value for name, value in kept_reading(folder).items() if (name, value) != ("late", "sort")}
    watch_lines(
        folder,
        state=state,
        alarms=alarms,
        baseline=baseline,
        only_marked=only_marked,
        as_json=as_json,
        weights=weights,
        options=reading.reading_options(context, kept),
        keep_options=not reading.are_given(context),
    )
