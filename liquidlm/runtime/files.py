"""Files that are written whole or not at all: an interruption leaves the old file or the new one.

`folders.py` does the same for folders, `checksums.py` checks them. `staging.py` describes how it is done.
"""

import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from .staging import part_of, permissions_of_a_file, sweep, sync
from .write_errors import writing


def write_file(path: str | Path, fill: Callable[[Path], object]) -> Path:
    """Write the file `path`, whole or not at all.

    Through a symbolic link its target is replaced. A device or a pipe (/dev/stdout) is written to directly.
    The permissions of an existing file are kept.

    Args:
        path: the place.
        fill: called with the path of a new file; it writes the file there.

    Returns:
        `path`.

    Raises:
        LiquidError: the file cannot be written.
    """
    path = Path(path)
    with writing(path):
        _check_place(path)
        if _is_stream(path):
            _copy_to_stream(path, fill)
            return path
        target = Path(os.path.realpath(path))
        sweep(target)
        with part_of(target) as folder:
            part = folder / target.name
            fill(part)
            _copy_permissions(part, target, folder)
            sync(part)
            os.replace(part, target)
        sync(target.parent)
    return path


def write_text(path: str | Path, text: str) -> Path:
    """`write_file` of text: UTF-8, and line breaks as they are, on every system."""
    return write_file(path, lambda part: part.write_text(text, encoding="utf-8", newline=""))


def probe(path: str | Path) -> None:
    """Check that a file can be written, before long work.

    Raises:
        LiquidError: the file `path` cannot be written.
    """
    path = Path(path)
    with writing(path):
        _check_place(path)
        if not _is_stream(path):
            with part_of(Path(os.path.realpath(path))):
                pass


def _check_place(path: Path) -> None:
    """Raise an OSError if `path` is a folder or a file that is not writable."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "is a folder", str(path))
    if not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, "is not writable", str(path))


def _is_stream(path: Path) -> bool:
    """Whether `path` is a device, a pipe, or an open file by its number, which cannot be replaced."""
    parent = Path(os.path.realpath(path.absolute().parent)).as_posix()
    if parent in ("/dev", "/dev/fd") or parent.startswith("/proc/"):
        return True
    return os.path.exists(path) and not stat.S_ISREG(os.stat(path).st_mode)


def _copy_to_stream(path: Path, fill: Callable[[Path], object]) -> None:
    """Write to a device or a pipe by way of a file, because `fill` may read or seek."""
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / "part"
        fill(part)
        with part.open("rb") as source, open(path, "wb") as stream:
            shutil.copyfileobj(source, stream)


def _copy_permissions(part: Path, target: Path, folder: Path) -> None:
    """Give `part` the owner and permissions of the file that it replaces, or those of a new file."""
    if not target.exists():
        part.chmod(permissions_of_a_file(folder))
        return
    before = target.stat()
    if os.name == "posix" and (before.st_uid, before.st_gid) != (part.stat().st_uid, part.stat().st_gid):
        with suppress(PermissionError):
            os.chown(part, before.st_uid, before.st_gid)
    part.chmod(stat.S_IMODE(before.st_mode))
