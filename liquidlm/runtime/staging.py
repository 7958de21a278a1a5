"""Staging: a file or folder is first written to a hidden folder beside its place, and then renamed.

The folders beside `place` are named ``.place.liquidlm-<random>.<kind>``. The kinds are:

- `part`: being filled by a process, which holds a lock on it;
- `old`: the folder that was at the place before, until the new one is there;
- `gone`: being deleted.

A process that is killed leaves such folders. The next process that writes to the place cleans up (`sweep`).
"""

import errno
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

SHOWN = 50
"""Characters of the place's name in the names beside it; a name has at most 255 bytes."""
STALE_AFTER = 86_400.0
"""Seconds after which an unchanged part is deleted where folders cannot be locked."""
STAGED = re.compile(r"\.(.+)\.liquidlm-[0-9a-f]{12}\.(part|old|gone)", re.DOTALL)
"""The names beside a place: its name, and the kind."""


def beside(place: Path, kind: str) -> Path:
    """A new name of this kind beside `place`."""
    return place.with_name(f".{place.name[:SHOWN]}.liquidlm-{secrets.token_hex(6)}.{kind}")


def staged(place: Path, *kinds: str) -> list[Path]:
    """The folders of these kinds that are beside `place`."""
    found = [(name, STAGED.fullmatch(name)) for name in _names(place.parent)]
    return [
        place.with_name(name)
        for name, match in found
        if match and match[1] == place.name[:SHOWN] and match[2] in kinds
    ]


def staged_names(parent: Path) -> list[str]:
    """The names of all places in `parent` that have a folder beside them, if the names are not shortened."""
    names = {found[1] for found in map(STAGED.fullmatch, _names(parent)) if found}
    return sorted(name for name in names if len(name) < SHOWN)


def _names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder)) if folder.is_dir() else []


@contextmanager
def part_of(place: Path) -> Iterator[Path]:
    """A new, locked folder beside `place`. At the end it is deleted if it is still there."""
    while True:
        part = beside(place, "part")
        os.mkdir(part)
        with suppress(BlockingIOError, FileNotFoundError):  # another process swept it before it was locked
            lock = _lock(part)
            break
    try:
        yield part
    finally:
        shutil.rmtree(part, ignore_errors=True)
        _unlock(lock)


def sweep(place: Path) -> bool:
    """Delete parts beside `place` whose process is gone; return whether no other process writes there."""
    alone = True
    for part in staged(place, "part", "gone"):
        try:
            lock = _lock(part)
            if lock is not None or time.time() - part.stat().st_mtime > STALE_AFTER:
                shutil.rmtree(part, ignore_errors=True)
            _unlock(lock)
        except BlockingIOError:
            alone = False
        except FileNotFoundError:  # its process has finished in the meantime
            continue
    return alone


def _lock(folder: Path) -> int | None:
    """Lock a folder until `_unlock` or the end of the process.

    Returns:
        A descriptor, or None where folders cannot be locked (Windows, some network disks).

    Raises:
        FileNotFoundError: the folder does not exist, or no longer.
        BlockingIOError: another process holds the lock.
    """
    if fcntl is None:
        return None
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.samestat(os.fstat(descriptor), os.stat(folder)):
            raise FileNotFoundError(errno.ENOENT, "another folder has replaced it", str(folder))
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError | FileNotFoundError):
            raise
        return None
    return descriptor


def _unlock(lock: int | None) -> None:
    if lock is not None:
        os.close(lock)


def permissions_of_a_file(folder: Path) -> int:
    """The permissions that the umask gives a new file, found from those of a new folder.

    safetensors gives its files other permissions.
    """
    return stat.S_IMODE(folder.stat().st_mode) & 0o666


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk; Windows does this for folders itself."""
    if os.name == "nt" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a disk without this operation
            raise
    finally:
        os.close(descriptor)
