"""Errors of the disk ▶ a LiquidError that names the file, the cause and the remedy."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from ..errors import LiquidError

REMEDIES = {
    "free some space": (errno.ENOSPC, errno.EDQUOT, errno.EFBIG),
    "change its permissions": (errno.EACCES, errno.EPERM, errno.EROFS),
    "give the name of a file": (errno.EISDIR,),
    "give the name of a folder (a file has this one)": (errno.EEXIST, errno.ENOTDIR),
    "make its folder first": (errno.ENOENT,),
}


def cannot_write(path: Path, error: Exception) -> LiquidError:
    """The LiquidError for an error that prevents writing `path`."""
    number = getattr(error, "errno", None)
    if number is None and (found := re.search(r"\(os error (\d+)\)", str(error))):  # safetensors' own
        number = int(found[1])
    reason = os.strerror(number) if number else str(error)
    remedy = next((f"{remedy}, or " for remedy, numbers in REMEDIES.items() if number in numbers), "")
    return LiquidError(f"cannot write {path}: {reason}; {remedy}choose another place")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """While `path` is written: errors of the disk and of safetensors become `cannot_write`."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise cannot_write(path, error) from error
