"""`liquidlm watch`: how surprising each line of a log is."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ..errors import LiquidError
from ..inference.defaults import ALARMS, FRESH_RATE, TRAINED_RATE, WEIGHTS
from ..inference.model_folders import check_model
from ..inference.reading_file import kept_reading
from ..inference.state_places import LEARN, WATCH, check_place
from ..inference.watch_options import check_alarms, check_late
from ..training.pace import check_pace
from . import reading_options as reading
from .arguments import FOLDER_HELP, Weights, naming_options
from .model_imports import import_models

if TYPE_CHECKING:
    from .watch_source import Frozen

Folder = Annotated[
    str | None,
    typer.Argument(metavar="[DIR]", help=f"{FOLDER_HELP} Without it, --learn begins with a new model."),
]
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
        help="Mark about this many lines in a usual day of the log. Days follow the times in the log. Without"
        " times, a day is 100,000 lines."
    ),
]
Baseline = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="First read this log, which has no anomalies, and learn what is usual. It is not printed. With a"
        " state that exists, it is not read again.",
    ),
]
Learn = Annotated[
    bool,
    typer.Option(
        "--learn",
        help="The model learns from each line after it has printed how surprising the line was. DIR itself is"
        " not changed: what was learned is in --state and --learn-to.",
    ),
]
LearnBudget = Annotated[
    float | None,
    typer.Option(
        metavar="B",
        help="How much is learned. 1: each line once. 0.1: one tenth of the lines, for a fast log. 4: each"
        " line when it is new, and three times again. [default: 1]",
    ),
]
LearnRate = Annotated[
    float | None,
    typer.Option(
        metavar="R",
        help=f"Peak learning rate. [default: {FRESH_RATE} for a new model, {TRAINED_RATE} for DIR]",
    ),
]
LearnTo = Annotated[
    Path | None,
    typer.Option(
        metavar="NEW_DIR",
        help="Write the model to this folder at the end, on Ctrl-C and on SIGTERM.",
    ),
]
Errors = Annotated[
    Literal["strict", "replace"] | None,
    typer.Option(
        help="What to do with a wrong byte: `replace` puts � in its place and prints a note, `strict` stops"
        " with an error. [default: replace]",
    ),
]
OnlyMarked = Annotated[bool, typer.Option("--only-marked", help="Print only the marked lines.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")]


def watch(
    context: typer.Context,
    folder: Folder = None,
    state: StateFile = None,
    alarms: Alarms = ALARMS,
    baseline: Baseline = None,
    learn: Learn = False,
    learn_budget: LearnBudget = None,
    learn_rate: LearnRate = None,
    learn_to: LearnTo = None,
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
    errors: Errors = None,
) -> None:
    """Read a log continuously, and print how surprising each line is.

    The command reads standard input in constant memory. It prints each line at once, with its surprise in
    bits. ▲ marks an unusual line and says what it is: a new kind of line, a burst, a silence, slow, unusual
    text. A model trained with --timestamps also reads the time of each line. Then the command also prints
    how unlikely the gap before the line was, in bits. Times are read as in training, and so are lines of
    JSON. The exit code is 0 if no line was marked, 1 if one was, and 2 after an error.

        tail -f server.log | liquidlm watch runs/log --state log.state

    With --learn no training is needed:

        tail -f server.log | liquidlm watch --learn --state log.state
    """
    learning = {"budget": learn_budget, "rate": learn_rate, "to": learn_to}
    folder = _check(folder, learn, learning)
    with naming_options(["alarms"]):
        check_alarms(alarms)
    options = reading.reading_options(context, _kept_reading(folder))
    check_late(options)
    _check_files(state, baseline, learn)
    import_models()
    from .watch_lines import watch_lines

    source = _source(folder, learn, learning)
    watch_lines(
        source,
        state=state,
        alarms=alarms,
        baseline=baseline,
        only_marked=only_marked,
        as_json=as_json,
        weights=weights,
        options=options,
        keep_options=not reading.are_given(context),
    )


def _check(folder: str | None, learn: bool, learning: dict[str, Any]) -> str | None:
    """Check the model and how it learns. Returns the folder of the model.

    Raises:
        LiquidError: there is no model, an option of --learn without it, or one out of its range.
    """
    given = [name for name, value in learning.items() if value is not None]
    if given and not learn:
        raise LiquidError(f"--learn-{min(given)} needs --learn: without it, the model does not learn")
    if learn:
        rate, budget = learning["rate"], learning["budget"]
        check_pace(TRAINED_RATE if rate is None else rate, 1.0 if budget is None else budget)
    if folder is not None:
        return str(check_model(folder))
    if not learn:
        raise LiquidError(
            "name a model (the --out folder of `liquidlm train`), or give --learn, which begins with a new"
            " one"
        )
    return None


def _check_files(state: Path | None, baseline: Path | None, learn: bool) -> None:
    """LiquidError for a state that cannot be written, and for a baseline that is not there."""
    if state is not None:
        check_place(state, LEARN if learn else WATCH)
    if baseline is not None and not baseline.exists():
        raise LiquidError(f"cannot read the baseline {baseline}: no such file")


def _source(folder: str | None, learn: bool, learning: dict[str, Any]) -> "Frozen":
    """Where the reader comes from."""
    if learn:
        from .watch_learning import Learning

        return Learning(folder, **{name: value for name, value in learning.items() if value is not None})
    from .watch_source import Frozen

    return Frozen(folder)


def _kept_reading(folder: str | None) -> dict[str, Any]:
    """How the model's text was read, as far as it is possible for lines that come one by one.

    A wrong byte does not stop the reading of a log, if the user does not want it.
    """
    kept = {} if folder is None else kept_reading(folder)
    possible = {name: value for name, value in kept.items() if (name, value) != ("late", "sort")}
    return {"errors": "replace", **possible}
