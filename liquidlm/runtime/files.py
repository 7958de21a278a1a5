"""Everything that is written: a file or a folder, whole or not at all, and whole on the disk.

What is written is made in a folder beside its place, with a name that nobody else has, brought to the disk,
and renamed. A process holds a lock on such a folder; what one that was killed has left is put right by the
next that writes there.
"""

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from ..errors import LiquidError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

MANIFEST = "checksums.json"
STALE_AFTER = 86_400.0
"""Seconds without a change after which a left-over is deleted where nobody can say whose it is."""
SHOWN = 50
"""Characters of a name that stand in the names of what is made beside it; 255 bytes are the most."""
CAUSES = {
    "free some space": (errno.ENOSPC, errno.EDQUOT, errno.EFBIG),
    "change its permissions": (errno.EACCES, errno.EPERM, errno.EROFS),
    "give the name of a file": (errno.EISDIR,),
    "make its folder first": (errno.ENOENT,),
}


def write_file(path: str | Path, fill: Callable[[Path], object]) -> Path:
    """Make the file `path` out of what `fill` writes at the path that it is given, whole or not at all.

    Through a symbolic link its target is replaced. A device or a pipe (/dev/stdout) is written to as it is.
    The permissions of an existing file are kept.

    Raises:
        LiquidError: it cannot be written.
    """
    path = Path(path)
    with _writing(path):
        _check_place(path)
        if _is_stream(path):
            _pour(path, fill)
            return path
        target = Path(os.path.realpath(path))
        _sweep(target)
        with _part_of(target) as folder:
            part = folder / target.name
            fill(part)
            _like(part, target, folder)
            _sync(part)
            os.replace(part, target)
        _sync(target.parent)
    return path


def write_text(path: str | Path, text: str) -> Path:
    """`write_file` of text, in UTF-8 and with its own line breaks, wherever this runs."""
    return write_file(path, lambda part: part.write_text(text, encoding="utf-8", newline=""))


def probe(path: str | Path) -> None:
    """LiquidError now, not after long work, if the file `path` cannot be written."""
    path = Path(path)
    with _writing(path):
        _check_place(path)
        if not _is_stream(path):
            with _part_of(Path(os.path.realpath(path))):
                pass


def write_folder(folder: Path, fill: Callable[[Path], object]) -> None:
    """Make `folder` out of what `fill` writes, with a checksum of every file.

    An interruption at any moment leaves the old folder or the new one, never a half; if it leaves the old one
    under another name, `recover` puts it back.

    Raises:
        LiquidError: it cannot be written.
    """
    with _writing(folder):
        folder = Path(os.path.realpath(folder))
        folder.parent.mkdir(parents=True, exist_ok=True)
        recover(folder)
        with _part_of(folder) as part:
            _fill(part, fill)
            try:
                if folder.exists():
                    if not folder.is_dir():
                        raise FileExistsError(errno.EEXIST, "a file of that name is there", str(folder))
                    os.rename(folder, _beside(folder, "old"))
                os.rename(part, folder)
                _sync(folder.parent)
            finally:
                _settle(folder)


def merge_into(folder: Path, fill: Callable[[Path], object], seal: str) -> None:
    """Put what `fill` writes into `folder` beside what is there, file by file.

    The file `seal`, without which nobody takes the others for whole, goes first and comes last, before the
    manifest.
    """
    with _writing(folder):
        with _part_of(folder / "export") as part:
            _fill(part, fill)
            for name in (MANIFEST, seal):
                (folder / name).unlink(missing_ok=True)
            _sync(folder)
            for file in sorted(part.iterdir(), key=lambda file: (file.name == MANIFEST, file.name == seal)):
                _move(file, folder / file.name)
        _sync(folder)


def make_folder(folder: Path) -> None:
    """Have a folder, and those that it is in.

    Raises:
        LiquidError: it cannot be made.
    """
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)


def remove_folder(folder: Path) -> None:
    """Delete a folder so that it is never seen half there."""
    with _writing(folder):
        gone = _beside(folder, "gone")
        os.rename(folder, gone)
        shutil.rmtree(gone, ignore_errors=True)


def recover(folder: Path) -> None:
    """Put right what a process that was killed while it wrote or removed `folder` has left of it."""
    if _sweep(folder):
        _settle(folder)


def recover_all(parent: Path) -> None:
    """`recover` each folder of short name that was in `parent`."""
    names = {found[1] for found in map(LEFT.fullmatch, _names(parent)) if found}
    for name in sorted(names):
        if len(name) < SHOWN:
            recover(parent / name)


def verify(folder: Path) -> None:
    """LiquidError that names the file if one of `folder` is missing or not as it was written."""
    try:
        sums = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        damaged = [name for name, value in sums.items() if _checksum(folder / name) != value]
    except (OSError, ValueError, AttributeError) as error:
        missing = getattr(error, "filename", None) or folder / MANIFEST
        raise LiquidError(f"{missing} is missing or damaged: {folder} was not written completely") from error
    if damaged:
        raise LiquidError(f"{folder / damaged[0]} is damaged: it is not as it was written")


def is_whole(folder: Path) -> bool:
    """Whether `folder` is there as it was written."""
    try:
        verify(folder)
    except LiquidError:
        return False
    return True


def cannot_write(path: Path, error: Exception) -> LiquidError:
    """What went wrong, and what helps against it."""
    number = getattr(error, "errno", None)
    if number is None and (found := re.search(r"\(os error (\d+)\)", str(error))):  # safetensors' own
        number = int(found[1])
    reason = os.strerror(number) if number else str(error)
    cure = next((f"{cure}, or " for cure, numbers in CAUSES.items() if number in numbers), "")
    return LiquidError(f"cannot write {path}: {reason}; {cure}choose another place")


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise cannot_write(path, error) from error


# ---- what is made beside

LEFT = re.compile(r"\.(.+)\.liquidlm-[0-9a-f]{12}\.(part|old|gone)", re.DOTALL)
"""Names of what is made beside its place: a folder that is being filled, one that was there before, and one
that is being deleted."""


def _beside(target: Path, kind: str) -> Path:
    return target.with_name(f".{target.name[:SHOWN]}.liquidlm-{secrets.token_hex(6)}.{kind}")


def _left(target: Path, *kinds: str) -> list[Path]:
    """What is there beside `target` of these kinds."""
    found = [(name, LEFT.fullmatch(name)) for name in _names(target.parent)]
    return [
        target.with_name(name)
        for name, match in found
        if match and match[1] == target.name[:SHOWN] and match[2] in kinds
    ]


def _names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder)) if folder.is_dir() else []


@contextmanager
def _part_of(target: Path) -> Iterator[Path]:
    """A new folder beside `target` that is this process's; deleted at the end, if it is still there."""
    while True:
        part = _beside(target, "part")
        os.mkdir(part)
        with suppress(BlockingIOError, FileNotFoundError):  # swept away before it was locked
            lock = _hold(part)
            break
    try:
        yield part
    finally:
        shutil.rmtree(part, ignore_errors=True)
        _let_go(lock)


def _hold(folder: Path) -> int | None:
    """Lock a folder until `_let_go` or the end of the process.

    Returns:
        a descriptor, or None where folders cannot be locked (Windows, some network disks).

    Raises:
        OSError: there is no such folder (any more), or another process holds it (BlockingIOError).
    """
    if fcntl is None:
        return None
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.samestat(os.fstat(descriptor), os.stat(folder)):
            raise FileNotFoundError(errno.ENOENT, "another is there now", str(folder))
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError | FileNotFoundError):
            raise
        return None
    return descriptor


def _let_go(lock: int | None) -> None:
    if lock is not None:
        os.close(lock)


def _sweep(target: Path) -> bool:
    """Delete what was begun beside `target` and nobody goes on with; whether nobody is at work there."""
    alone = True
    for part in _left(target, "part", "gone"):
        try:
            lock = _hold(part)
            if lock is not None or time.time() - part.stat().st_mtime > STALE_AFTER:
                shutil.rmtree(part, ignore_errors=True)
            _let_go(lock)
        except BlockingIOError:
            alone = False
        except FileNotFoundError:  # its process has come to its end meanwhile
            continue
    return alone


def _settle(folder: Path) -> None:
    """End an exchange: the folder that was there before comes back, if no new one has taken its place."""
    for old in _left(folder, "old"):
        if not folder.exists():
            os.rename(old, folder)
        else:
            gone = _beside(folder, "gone")
            os.rename(old, gone)
            shutil.rmtree(gone, ignore_errors=True)


# ---- files


def _check_place(path: Path) -> None:
    """OSError if no file can be put at `path`, whatever is in it."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "is a folder", str(path))
    if not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, "is not to be written to", str(path))


def _is_stream(path: Path) -> bool:
    """Whether it is a device, a pipe, or an open file by its number, which cannot be replaced."""
    parent = Path(os.path.realpath(path.absolute().parent)).as_posix()
    if parent in ("/dev", "/dev/fd") or parent.startswith("/proc/"):
        return True
    return os.path.exists(path) and not stat.S_ISREG(os.stat(path).st_mode)


def _pour(path: Path, fill: Callable[[Path], object]) -> None:
    """Write to a device or a pipe, which cannot be read back or gone to and fro in."""
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / "part"
        fill(part)
        with part.open("rb") as source, open(path, "wb") as stream:
            shutil.copyfileobj(source, stream)


def _like(part: Path, target: Path, folder: Path) -> None:
    """Owner and permissions of the file that is replaced; of a new one, as the umask has it."""
    if not target.exists():
        part.chmod(_usual(folder))
        return
    before = target.stat()
    if os.name == "posix" and (before.st_uid, before.st_gid) != (part.stat().st_uid, part.stat().st_gid):
        with suppress(PermissionError):
            os.chown(part, before.st_uid, before.st_gid)
    part.chmod(stat.S_IMODE(before.st_mode))


def _move(file: Path, target: Path) -> None:
    if target.is_symlink():
        write_file(target, lambda part: shutil.copyfile(file, part))
    else:
        os.replace(file, target)


def _usual(folder: Path) -> int:
    """Permissions of a new file, going by those that a new folder got; safetensors gives its files others."""
    return stat.S_IMODE(folder.stat().st_mode) & 0o666


def _fill(part: Path, fill: Callable[[Path], object]) -> None:
    """A folder's files, their manifest, all on the disk."""
    fill(part)
    sums = {file.name: _checksum(file) for file in sorted(part.iterdir())}
    (part / MANIFEST).write_text(json.dumps(sums, indent=1), encoding="utf-8")
    for file in part.iterdir():
        file.chmod(_usual(part))
        _sync(file)
    _sync(part)


def _checksum(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sync(path: Path) -> None:
    """Have the disk keep a file, or a folder's names; Windows does that of folders by itself."""
    if os.name == "nt" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a disk that knows no such thing
            raise
    finally:
        os.close(descriptor)
