"""The name of a model ▶ its folder. Commands check it before they import what takes long."""

import json
from pathlib import Path

from ..errors import LiquidError
from ..pretrained import shipped_models
from .checkpoints import checkpoints, newest_undamaged
from .hub_models import HUB_PREFIX, downloaded_model

CONFIG = "config.json"


def model_folder(name: str | Path) -> Path:
    """The folder that holds a model's files: `find_folder`'s, or its newest whole checkpoint if the run is
    unfinished.

    Raises:
        LiquidError: there is no such folder, or no model in it.
    """
    folder = find_folder(name)
    if (folder / CONFIG).exists():
        return folder
    return newest_undamaged(_checkpoints(folder))[0]


def check_model(name: str | Path, times: bool = False) -> Path:
    """Check that there is a model of that name, without reading its weights.

    Args:
        name: as for `find_folder`.
        times: the model must be trained with times.

    Returns:
        its folder. Commands go on with it, so that a model on the hub is looked up once.

    Raises:
        LiquidError: there is no model, or it was trained without times.

    Example:
        >>> check_model("stories").name
        'stories'
    """
    folder = find_folder(name)
    if times and not has_times(folder):
        raise no_times(name)
    if not (folder / CONFIG).exists():
        _checkpoints(folder)
    return folder


def is_on_hub(name: str | Path) -> bool:
    """Whether a name is `hf:USER/NAME`. Such a model is checked when it is downloaded, once."""
    return str(name).startswith(HUB_PREFIX) and not Path(name).is_dir()


def no_times(name: str | Path) -> LiquidError:
    """The error for a model that was trained without times."""
    return LiquidError(f"the model in {name} was trained without times: train one with --timestamps")


def has_times(folder: Path) -> bool:
    """Whether a model was trained with times; True if its configuration cannot be read, which is another
    error."""
    if not (folder / CONFIG).exists():
        folder = _checkpoints(folder)[0]
    try:
        return json.loads((folder / CONFIG).read_text(encoding="utf-8")).get("time_components", 0) > 0
    except (OSError, ValueError, AttributeError, TypeError):
        return True


def _checkpoints(folder: Path) -> list[Path]:
    steps = checkpoints(folder)
    if not steps:
        raise LiquidError(f"{folder} holds no model: give the --out folder of `liquidlm train`")
    return steps


def find_folder(name: str | Path) -> Path:
    """The folder of a model, by its path, by the name of a bundled model, or by `hf:USER/NAME`, a model on
    the Hugging Face hub, which is downloaded.

    Raises:
        LiquidError: there is none of these.
    """
    if Path(name).is_dir():
        return Path(name)
    if str(name).startswith(HUB_PREFIX):
        return downloaded_model(str(name))
    shipped = shipped_models()
    if str(name) not in shipped:
        names = ", ".join(["the --out folder of `liquidlm train`", *shipped])
        raise LiquidError(
            f"{name} is not a folder or a bundled model: give {names}, or hf:USER/NAME for a model on the hub"
        )
    return shipped[str(name)]
