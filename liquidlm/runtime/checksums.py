"""The checksums of a folder's files: whether all of them are as they were written."""

import hashlib
import json
from pathlib import Path

from ..errors import LiquidError

MANIFEST = "checksums.json"
"""The file with the SHA-256 of every other file of a folder."""
OWN = ("chat_template.jinja",)
"""Files that people may change, and that are not checked."""


def write_checksums(folder: Path) -> None:
    """Write the checksums of all files of `folder` that nobody may change."""
    sums = {file.name: _checksum(file) for file in sorted(folder.iterdir()) if file.name not in OWN}
    (folder / MANIFEST).write_text(json.dumps(sums, indent=1), encoding="utf-8")


def verify(folder: Path) -> None:
    """Check that every file of `folder` is there and unchanged.

    Raises:
        LiquidError: a file is missing or damaged. The message names it.
    """
    try:
        sums = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        damaged = [name for name, value in sums.items() if _checksum(folder / name) != value]
    except (OSError, ValueError, AttributeError) as error:
        missing = getattr(error, "filename", None) or folder / MANIFEST
        raise LiquidError(f"{missing} is missing or damaged: {folder} was not written completely") from error
    if damaged:
        raise LiquidError(f"{folder / damaged[0]} is damaged: it has changed since it was written")


def is_undamaged(folder: Path) -> bool:
    """Whether every file of `folder` is there and unchanged."""
    try:
        verify(folder)
    except LiquidError:
        return False
    return True


def _checksum(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
