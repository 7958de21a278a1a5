"""The names of the models of a server, checked without torch."""

from collections.abc import Sequence
from pathlib import Path

from ..errors import LiquidError


def model_names(folders: Sequence[str], names: Sequence[str], states: Path | None) -> list[str]:
    """The name of each model in requests.

    >>> model_names(["runs/a", "runs/b"], [], None)
    ['a', 'b']

    Args:
        folders: of the models.
        names: of the models; none takes the folders' names.
        states: folder of the states that clients keep, with a folder for each of several models.

    Raises:
        LiquidError: there are more or fewer names than folders, a name twice, or one that no folder can have.
    """
    if names and len(names) != len(folders):
        raise LiquidError(f"{len(names)} names are given for {len(folders)} models: give one --name for each")
    found = list(names) or [Path(folder).resolve().name or "model" for folder in folders]
    if twice := [name for name in found if found.count(name) > 1]:
        raise LiquidError(f"two models have the name {twice[0]!r}: give each its own with --name")
    if states is not None and len(found) > 1 and (bad := [n for n in found if Path(n).name != n]):
        raise LiquidError(f"with --states a model's name is a folder's too: {bad[0]!r} cannot be one")
    return found
