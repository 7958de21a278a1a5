"""`liquidlm bench`: the benchmarks of the repository."""

from typing import Annotated

import typer

from ..errors import LiquidError
from ..runtime.startup import ready

Name = Annotated[
    str,
    typer.Argument(
        metavar="[NAME]",
        show_default=False,
        help="The benchmark. Without it, the list of benchmarks is printed.",
    ),
]


def bench(context_: typer.Context, name: Name = "--list") -> None:
    """Run a benchmark against other models.

    The results are written to benchmarks/results, the plots to docs/images. The command needs a clone of the
    repository, because the installed package has no benchmarks. Options after the name are
    options of the benchmark. `python -m benchmarks.run NAME --help` lists them.
    """
    try:
        from benchmarks.run import main as run
    except ImportError as error:
        raise LiquidError(
            f"the benchmarks cannot be run here ({error}): they are in the repository, not in the installed"
            " package; clone it, `make setup`, and run this there"
        ) from error
    ready()
    raise typer.Exit(run([name, *context_.args]))
