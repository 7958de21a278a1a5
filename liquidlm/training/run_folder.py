"""The folder of a run: one training at a time writes there, and nothing of anybody else's is lost."""

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path

from filelock import FileLock, Timeout

from ..errors import LiquidError
from ..inference.checkpoints import checkpoints
from ..model.config import STUB
from ..runtime.folders import make_folder, recover, recover_all
from ..runtime.write_errors import cannot_write

LOCK = ".liquidlm.lock"
"""In a folder without checkpoints it says beside that what is there is a run's."""
INPUT = "standard-input.txt"
CURVE = "curve.jsonl"
WRITTEN = (
    *("*.json", "*.safetensors", "*.jinja", "merges.txt", "vocab.*", f"{STUB}.py", "checkpoints"),
    *("curve.*", "tensorboard", INPUT, "input-*"),
    *("*.bin", "*.pt", "*.pth", "*.gguf"),  # not by us, but then the folder is another model's
)
"""What a run writes into its folder, or may write in the versions of transformers to come."""


@contextmanager
def run_folder(folder: Path) -> Iterator[None]:
    """Have the folder for this process alone, until it ends, however it does; made if there is none.

    What a run that was killed has left half written is put right. A folder that is made, and that nothing is
    written to, goes again.

    Raises:
        LiquidError: another process has it, it cannot be written, or it holds files that a run would
            overwrite, and is no run's.
    """
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        make_folder(folder)
        with _locked(folder):
            yield
    finally:
        for each in made:  # the innermost first
            with suppress(OSError):  # it is not empty
                each.rmdir()


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    file = folder / LOCK
    lock, ours = FileLock(file), file.exists() or bool(checkpoints(folder))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise LiquidError(
            f"another training writes to {folder}{_holder(file)}: wait for it, stop it, or choose another"
            " --out"
        ) from None
    except OSError as error:
        raise cannot_write(folder, error) from error
    try:
        _sign(file)
        if not ours:
            _check_foreign(folder)
            ours = True
        for name in ("export", CURVE, "curve.png", INPUT):
            recover(folder / name)
        recover_all(folder / "checkpoints")
        yield
    finally:
        with suppress(OSError):  # the folder is gone, or Windows deletes the lock itself
            if not ours or os.listdir(folder) == [LOCK] or checkpoints(folder):
                file.unlink()
        lock.release()


def _sign(file: Path) -> None:
    """Say in the lock who holds it."""
    since = time.strftime("%Y-%m-%d %H:%M")
    with suppress(OSError):  # Windows does not let a locked file be written
        file.write_text(
            json.dumps({"process": os.getpid(), "host": socket.gethostname(), "since": since}),
            encoding="utf-8",
        )


def _holder(file: Path) -> str:
    """Who holds a lock, as far as that is known."""
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
        return f" (process {said['process']} on {said['host']}, since {said['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _check_foreign(folder: Path) -> None:
    """LiquidError if a run would overwrite what is there; text and notes may lie beside it."""
    for name in sorted(os.listdir(folder)):
        if any(fnmatch(name, pattern) for pattern in WRITTEN):
            raise LiquidError(
                f"{folder} already holds {name}, which is of no run that is known: choose another --out, or a"
                " new folder in it"
            )
