"""What can be checked of a run before torch is imported, which takes seconds."""

from pathlib import Path

from ..errors import LiquidError
from ..inference.checkpoints import checkpoints_to_resume
from ..inference.model_folders import check_model, find_folder, is_on_hub
from ..text.paths import find_sources
from .run_folder import check_run_folder
from .settings import TrainSettings
from .text_sources import is_read_once


def check_start(settings: TrainSettings, out: Path | None) -> None:
    """Check the files and folders that a new run names.

    Args:
        settings: of the run.
        out: folder of the run; None for a dry run.

    Raises:
        LiquidError: text is missing, there is no such model to fine-tune, or the run cannot write to `out`.
    """
    check_text_for_times(settings)
    for paths in (settings.paths, settings.valid):
        if paths:
            find_sources(paths, settings.timestamps)
    local = settings.source is not None and not is_on_hub(settings.source)
    if settings.source is not None and local:
        check_model(settings.source)
    if out is None:
        if any(is_read_once(path) for path in (*settings.paths, *settings.valid)):
            raise LiquidError("--dry-run would use up standard input or a pipe: give files")
        return
    if local:
        source_folder(settings, out)
    check_run_folder(out)


def check_resume(out: Path, changes: dict[str, int | float | bool | None]) -> None:
    """Check the folder of a run that is to go on, and the settings that change.

    Raises:
        LiquidError: there is no checkpoint, or a setting is out of its range.
    """
    given = {name: value for name, value in changes.items() if value is not None}
    length = {} if given.keys() & {"steps", "minutes"} else {"steps": 1}
    TrainSettings(**length, **given)  # pyright: ignore[reportArgumentType]
    checkpoints_to_resume(out)


def check_text_for_times(settings: TrainSettings) -> None:
    """Raises LiquidError for --timestamps without text: the default text has no times."""
    if settings.timestamps and not settings.paths:
        raise LiquidError("--timestamps needs text that has times: name its files")


def source_folder(settings: TrainSettings, out: Path) -> Path | None:
    """The folder of the model to fine-tune, which is not `out`; None for a new model.

    Raises:
        LiquidError: there is no such folder, or it is `out`.
    """
    if settings.source is None:
        return None
    found = find_folder(settings.source)
    if found.resolve() == out.resolve():
        raise LiquidError(f"--from never changes its model: choose an --out other than {out}")
    return found
