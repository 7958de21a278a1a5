"""Checkpoints of a run: their folders, and the newest undamaged one."""

from pathlib import Path

from ..errors import LiquidError
from ..runtime.checksums import verify


def checkpoint_folder(run: Path, step: int) -> Path:
    """The folder of the checkpoint of a training step."""
    return run / "checkpoints" / f"step-{step:08}"


def step_of(checkpoint: Path) -> int:
    """The step at which a checkpoint was taken."""
    return int(checkpoint.name.removeprefix("step-"))


def checkpoints(run: Path) -> list[Path]:
    """A run's checkpoints, the newest first."""
    found = (run / "checkpoints").glob("step-*")
    return sorted((path for path in found if path.is_dir()), reverse=True)


def checkpoints_to_resume(run: Path) -> list[Path]:
    """A run's checkpoints, the newest first.

    Raises:
        LiquidError: there is no checkpoint.
    """
    if not (steps := checkpoints(run)):
        raise LiquidError(f"there is no checkpoint in {run}: start without --resume")
    return steps


def newest_undamaged(steps: list[Path]) -> tuple[Path, list[str]]:
    """The newest undamaged checkpoint, and an error message for each newer one.

    Args:
        steps: folders of checkpoints, the newest first.

    Raises:
        LiquidError: all are damaged.
    """
    wrong = []
    for step in steps:
        try:
            verify(step)
        except LiquidError as error:
            wrong.append(str(error))
        else:
            return step, wrong
    raise LiquidError(f"all checkpoints are damaged: {wrong[0]}")
