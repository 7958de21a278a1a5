"""`reading.json` beside a model: how the text that it was trained on was read."""

import json
from pathlib import Path
from typing import Any

from ..errors import LiquidError, first_line
from ..text.reading import ReadingOptions
from .model_folders import model_folder

READING = "reading.json"


def save_reading(folder: Path, options: ReadingOptions) -> None:
    """Write the options that are not the defaults into the folder of a model; no file if there are none.

    The year is not written: it is that of one text.
    """
    if given := {name: value for name, value in options.given().items() if name != "year"}:
        (folder / READING).write_text(json.dumps(given), encoding="utf-8")


def kept_reading(name: str | Path) -> dict[str, Any]:
    """The options that a model was trained with, for `ReadingOptions.of`; empty if they are the defaults.

    Args:
        name: of the model, as for `load_model`.

    Raises:
        LiquidError: there is no such model, or its file cannot be read.

    Example:
        >>> kept_reading("stories")
        {}
    """
    file = model_folder(name) / READING
    if not file.exists():
        return {}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        ReadingOptions.of(**found)
    except (OSError, ValueError, TypeError) as error:
        raise LiquidError(f"{file} cannot be read: {first_line(error)}") from error
    return found
