"""Folders that are written whole or not at all, with a checksum of every file."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from ..errors import LiquidError
from .checksums import MANIFEST, write_checksums
from .files import write_file
from .staging import beside, part_of, permissions_of_a_file, staged, staged_names, sweep, sync
from .write_errors import writing


def check_is_new(folder: Path) -> None:
    """Check that there is no file or folder of this name.

    Raises:
        LiquidError: there is one.
    """
    if folder.exists():
        raise LiquidError(f"{folder} exists already: choose another --out")


def write_folder(folder: Path, fill: Callable[[Path], object]) -> None:
    """Write `folder`, whole or not at all, with a checksum of every file.

    An interruption at any moment leaves the old folder or the new one. The old one may have another name
    then; `recover` restores it.

    Args:
        folder: the place; a folder that is there is replaced. Through a symbolic link its target is replaced.
        fill: called with an empty folder; it writes the files there.

    Raises:
        LiquidError: the folder cannot be written.
    """
    with writing(folder):
        folder = Path(os.path.realpath(folder))
        folder.parent.mkdir(parents=True, exist_ok=True)
        recover(folder)
        with part_of(folder) as part:
            _fill(part, fill)
            try:
                if folder.exists():
                    if not folder.is_dir():
                        raise FileExistsError(errno.EEXIST, "a file of this name exists", str(folder))
                    os.rename(folder, beside(folder, "old"))
                os.rename(part, folder)
                sync(folder.parent)
            finally:
                _settle(folder)


def merge_into(folder: Path, fill: Callable[[Path], object], seal: str) -> None:
    """Write files into `folder`, beside the files that are there; files of the same names are replaced.

    An interruption may leave some files old and some new, but never a folder that passes for whole: the file
    `seal` and the checksums are deleted first, and written last.

    Args:
        folder: it must exist.
        fill: called with an empty folder; it writes the files there.
        seal: the name of a file without which the others are not used.

    Raises:
        LiquidError: the files cannot be written.
    """
    with writing(folder):
        with part_of(folder / "export") as part:
            _fill(part, fill)
            for name in (MANIFEST, seal):
                (folder / name).unlink(missing_ok=True)
            sync(folder)
            for file in sorted(part.iterdir(), key=lambda file: (file.name == MANIFEST, file.name == seal)):
                _move(file, folder / file.name)
        sync(folder)


def make_folder(folder: Path) -> None:
    """Make a folder, and the folders above it, if they do not exist.

    Raises:
        LiquidError: it cannot be made.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)


def remove_folder(folder: Path) -> None:
    """Delete a folder: it disappears at once, whatever interrupts the deletion.

    Raises:
        LiquidError: it cannot be deleted.
    """
    with writing(folder):
        gone = beside(folder, "gone")
        os.rename(folder, gone)
        shutil.rmtree(gone, ignore_errors=True)


def recover(folder: Path) -> None:
    """Clean up after a process that was killed while it wrote or deleted `folder`."""
    if sweep(folder):
        _settle(folder)


def recover_all(parent: Path) -> None:
    """`recover` every folder of `parent`, except those with very long names."""
    for name in staged_names(parent):
        recover(parent / name)


def _settle(folder: Path) -> None:
    """End an exchange: restore the old folder if there is no new one, otherwise delete it."""
    for old in staged(folder, "old"):
        if not folder.exists():
            os.rename(old, folder)
        else:
            gone = beside(folder, "gone")
            os.rename(old, gone)
            shutil.rmtree(gone, ignore_errors=True)


def _fill(part: Path, fill: Callable[[Path], object]) -> None:
    """Write a folder's files and their checksums, and wait until they are on the disk."""
    fill(part)
    write_checksums(part)
    for file in part.iterdir():
        file.chmod(permissions_of_a_file(part))
        sync(file)
    sync(part)


def _move(file: Path, target: Path) -> None:
    if target.is_symlink():
        write_file(target, lambda part: shutil.copyfile(file, part))
    else:
        os.replace(file, target)
