"""Arguments that several commands have."""

from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer

from ..errors import LiquidError
from ..pretrained import names_in_words

FOLDER_HELP = (
    f"A model: a folder (the --out of `train`), {names_in_words()} (bundled with liquidlm), or hf:USER/NAME"
    " (a model on the Hugging Face hub)."
)

Folder = Annotated[str, typer.Argument(metavar="DIR", help=FOLDER_HELP)]
"""A model that has to be named."""

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]

Weights = Annotated[
    Literal["float32", "bf16", "int8"],
    typer.Option(
        help="Type of the weights on a CPU while text is read and written. Smaller types are faster."
    ),
]


def named_folder(name: str) -> Path:
    """The folder of that name. An empty name (an unset shell variable) would mean the current folder: an
    error."""
    if not name:
        raise typer.BadParameter("empty: give the name of a folder")
    return Path(name)


def option_name(name: str) -> str:
    """An option as the user types it, from the name of its parameter."""
    return "--" + name.replace("_", "-")


@contextmanager
def naming_options(names: Container[str], option: Callable[[str], str] = option_name) -> Iterator[None]:
    """An error that begins with the name of a parameter begins with its option.

    Args:
        names: of the parameters.
        option: gives the option of a parameter.

    Raises:
        LiquidError: that of the block, with the name of the option.
    """
    try:
        yield
    except LiquidError as error:
        name, space, rest = str(error).partition(" ")
        if name not in names:
            raise
        raise LiquidError(option(name) + space + rest) from error
