"""The header of a state file, which says what the file is. Reading it needs no torch."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from ..errors import LiquidError

STATE = "liquid_state"
"""The entry of a safetensors header with a state's metadata, as JSON."""


@contextmanager
def open_state(path: str | Path, framework: str = "numpy") -> Iterator[tuple[safe_open, dict[str, Any]]]:
    """Open a state file for a `with` block that reads its tensors.

    Args:
        path: the file.
        framework: of the tensors, "numpy" or "pt".

    Returns:
        the open file, and its metadata.

    Raises:
        LiquidError: the file is missing, damaged or of another kind, also if that shows only in the block.
    """
    if not Path(path).is_file():  # reading a pipe would block
        why = "it is a folder or a pipe, not a file" if Path(path).exists() else "there is no such file"
        raise LiquidError(f"{path} is not a readable liquid state: {why}")
    names: list[str] = []
    try:
        with safe_open(path, framework) as file:
            names = list(file.keys())
            yield file, dict(json.loads((file.metadata() or {})[STATE]))
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise LiquidError(f"{path} is not a readable liquid state{_instead(names)}") from error


def _instead(names: Sequence[str]) -> str:
    """What a file with tensors of these names is, if it is not a state."""
    if "rng" in names:
        return ": it belongs to a training run, which `liquidlm train --resume --out RUN` continues"
    if any(name.startswith("blocks.") for name in names):
        return ": it holds the weights of a model; give its folder as the model"
    return " (damaged, or another file)"
