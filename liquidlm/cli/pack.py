"""`liquidlm pack`: a small copy of a model, to share it."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..inference.model_folders import check_model, model_folder
from ..runtime.folders import check_is_new, write_folder
from .arguments import Folder, named_folder
from .model_imports import import_models

if TYPE_CHECKING:
    from ..model.language_model import LiquidLanguageModel

Out = Annotated[
    Path, typer.Option("--out", metavar="DIR", parser=named_folder, help="New folder for the small copy.")
]
BESIDE = ("README.md", "reading.json")
"""Files of a model that are copied as they are: its card, and how its text was read."""


def pack(folder: Folder, out: Out) -> None:
    """Write a small copy of a model, with int8 weights.

    The copy has about a quarter of the size. It can be used like any model: each command takes it, `train
    --from` trains it further, and `hf upload` shares it. A row of a matrix has 255 steps, so the predictions
    change a little.

        liquidlm pack runs/novel --out small-novel
    """
    files = model_folder(check_model(folder))
    check_is_new(out)
    import_models()
    from ..inference.saving import load_model, save_int8_model

    model, tokenizer = load_model(files)

    def fill(part: Path) -> None:
        save_int8_model(part, model, tokenizer)
        for file in (files / name for name in BESIDE):
            if file.exists():
                shutil.copyfile(file, part / file.name)

    write_folder(out, fill)
    print(f"{out}: the weights have {_megabytes(out)}, those of {folder} have {_megabytes(files)}")
    _warn_of_counts(model)


def _megabytes(folder: Path) -> str:
    return f"{sum(file.stat().st_size for file in folder.glob('model*.safetensors')) / 1e6:.1f} MB"


def _warn_of_counts(model: "LiquidLanguageModel") -> None:
    """Say that a table of the training text is part of the copy, if it is."""
    if model.counts is not None and (table := model.counts.training_counts) is not None:
        print(
            f"note: {table.nbytes / 1e6:.1f} MB of it count the training text (count_training_lines). Anyone"
            " who has the copy can read pieces of that text"
        )
