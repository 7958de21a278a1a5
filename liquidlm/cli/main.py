"""The command line: makes the app, adds the commands, and runs them."""

import os
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from .. import __version__
from ..errors import LiquidError, message, printable
from ..pretrained import names_in_words
from ..runtime.allocator import keep_freed_memory
from ..runtime.startup import INTERRUPTED, forget_interrupts
from ..runtime.streams import READER_GONE, OutputLost, standard_streams
from .bench import bench
from .eval import evaluate
from .export import export
from .generate import generate
from .info import info
from .inspect import inspect
from .pack import pack
from .serve import serve
from .times import times
from .train import train
from .watch import watch

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain text: importing rich and drawing its boxes doubles the time
    context_settings={"help_option_names": ["-h", "--help"]},
    help=f"""Continuous-time language models for very long text.

    A liquid model reads and writes at constant cost and memory per token. It keeps a state of constant size,
    not a window of past tokens.

    A model comes with the package ({names_in_words()}), and `train` has a default text:

        liquidlm generate "Once upon a time"

        liquidlm train --out runs/first --minutes 5

        liquidlm generate runs/first "The module provides"

        liquidlm eval runs/first my-text.txt

    If an input is wrong, the command prints one line with the mistake. The exit code is 2.
    """,
)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"liquidlm {__version__}")
        raise typer.Exit


Version = Annotated[
    bool,
    typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
]


@app.callback()
def options(version: Version = False) -> None:
    """The options of `liquidlm` itself, without a command."""


app.command()(train)
app.command()(generate)
app.command("eval")(evaluate)
app.command()(info)
app.command()(times)
app.command()(inspect)
app.command()(watch)
app.command()(serve)
app.command()(export)
app.command()(pack)
app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(bench)


def main() -> None:
    """Run the command line; a user's mistake ends with one line and exit code 2."""
    keep_freed_memory()
    with standard_streams():
        code = _exit_code(app)
        code = _exit_code(sys.stdout.flush) or code  # now, when a failure can still be reported
    forget_interrupts()
    sys.exit(code)


def _exit_code(command: Callable[[], object]) -> int | str | None:
    """Run a command and print what ended it, if it is a mistake."""
    try:
        command()
    except SystemExit as end:
        return end.code
    except KeyboardInterrupt:  # outside the app, which catches its own
        return INTERRUPTED
    except OutputLost as error:
        return READER_GONE if error.reader_gone else _refuse(error)
    except (LiquidError, OSError) as error:
        return _refuse(error)
    return 0


def _refuse(error: Exception) -> int:
    process = "" if os.environ.get("RANK", "0") == "0" else f"process {os.environ['RANK']}: "
    print(printable(f"{process}error: {message(error)}"), file=sys.stderr)
    return 2
