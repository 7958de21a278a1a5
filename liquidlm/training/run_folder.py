"""The folder of a run: only one training writes there, and it does not overwrite files of others."""

import errno
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path

from ..errors import LiquidError
from ..inference.checkpoints import checkpoints
from ..model.stub import STUB
from ..runtime.folders import make_folder, recover, recover_all
from ..runtime.write_errors import cannot_write

LOCK = ".liquidlm.lock"
"""Lock file of a run. In a folder without checkpoints it also marks the files as files of a run."""
INPUT = "standard-input.txt"
CURVE = "curve.jsonl"
WRITTEN = (
    *("*.json", "*.safetensors", "*.jinja", "merges.txt", "vocab.*", f"{STUB}.py", "checkpoints"),
    *("curve.*", "tensorboard", INPUT, "input-*"),
    *("*.bin", "*.pt", "*.pth", "*.gguf"),  # not written by liquidlm: the folder is another model's
)
"""Patterns of the files that a run writes into its folder, now or with later versions of transformers."""


@contextmanager
def run_folder(folder: Path) -> Iterator[None]:
    """Lock the folder of a run for this process; a context manager.

    The folder is created if it does not exist. Files that a killed run left incomplete are repaired. A new
    folder that is still empty at the end is deleted.

    Args:
        folder: folder of the run.

    Raises:
        LiquidError: another process has the lock, the folder cannot be written, or it has files that are not
            of a run and that a run would overwrite.
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
    from filelock import FileLock, Timeout  # what is only checked needs no lock

    file = folder / LOCK
    lock, ours = FileLock(file), _is_ours(folder)
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
    """Write process, host and time into the lock file."""
    since = time.strftime("%Y-%m-%d %H:%M")
    with suppress(OSError):  # Windows does not let a locked file be written
        file.write_text(
            json.dumps({"process": os.getpid(), "host": socket.gethostname(), "since": since}),
            encoding="utf-8",
        )


def _holder(file: Path) -> str:
    """The process that holds a lock, if the lock file names it."""
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
        return f" (process {said['process']} on {said['host']}, since {said['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def check_run_folder(folder: Path) -> None:
    """Check that a new run can write to a folder, as far as this is possible without writing.

    Raises:
        LiquidError: it already holds a run or files that a run would overwrite, or it cannot be written.
    """
    if checkpoints(folder):
        raise holds_a_run(folder)
    place = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())
    if not place.is_dir():
        raise cannot_write(folder, NotADirectoryError(errno.ENOTDIR, ""))
    if not os.access(place, os.W_OK):
        raise cannot_write(folder, PermissionError(errno.EACCES, ""))
    if folder.is_dir() and not _is_ours(folder):
        _check_foreign(folder)


def holds_a_run(folder: Path) -> LiquidError:
    """The error for a new run in the folder of another."""
    return LiquidError(f"{folder} already holds a run: continue it with --resume, or choose another --out")


def _is_ours(folder: Path) -> bool:
    """Whether a folder is that of a run, also of one that has no checkpoint yet."""
    return (folder / LOCK).exists() or bool(checkpoints(folder))


def _check_foreign(folder: Path) -> None:
    """Raise LiquidError if a run would overwrite a file in the folder; it may have text and notes."""
    for name in sorted(os.listdir(folder)):
        if any(fnmatch(name, pattern) for pattern in WRITTEN):
            raise LiquidError(
                f"{folder} already holds {name}, which is not from a liquidlm run: choose another --out, or"
                " a new folder in it"
            )
