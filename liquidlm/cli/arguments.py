"""Arguments that several commands have."""

from pathlib import Path
from typing import Annotated, Literal

import typer

FOLDER_HELP = (
    "A model: a folder (the --out of `train`), `stories` (the bundled model), or hf:USER/NAME (a model on the"
    " Hugging Face hub)."
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
