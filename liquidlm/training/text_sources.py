"""Paths of a run's text become paths where a resumed run finds the same text.

A run reads its text several times. Standard input and pipes can be read only once, so a copy of their text is
kept in the folder of the run.
"""

import os
import shutil
import stat
import sys
from pathlib import Path

from ..errors import LiquidError
from ..runtime.files import write_file
from ..text.cutting import PART
from ..text.hub import PREFIX
from ..text.paths import STANDARD_INPUT, TEXT_SUFFIXES, TIMED_SUFFIXES
from ..text.reading import ReadingOptions
from ..text.utf8 import decoded

OF_A_PROCESS = ("/dev/", "/proc/")
"""Folders where the same path names another file in another process."""


def is_read_once(path: str) -> bool:
    """Whether a path can be read only once, or only in this process.

    Raises:
        LiquidError: the path is a device or a socket.

    Example:
        >>> is_read_once("-"), is_read_once("hf:roneneldan/TinyStories")
        (True, False)
    """
    if path == str(STANDARD_INPUT):
        return True
    if path.startswith(PREFIX) or not os.path.exists(path):
        return False
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        return False
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode) or stat.S_ISSOCK(mode):
        raise LiquidError(f"{path} is not a file or a pipe: give one of these, or - for standard input")
    return stat.S_ISFIFO(mode) or os.path.abspath(path).startswith(OF_A_PROCESS)


def rereadable_paths(
    paths: list[str], valid: list[str], folder: Path, options: ReadingOptions | None = None
) -> tuple[list[str], list[str]]:
    """Absolute paths of text and held-out text; text that can be read only once is copied first.

    Args:
        paths: training text.
        valid: held-out text.
        folder: folder of the run, for the copies.
        options: how the text is read; None: the defaults.

    Returns:
        the new `paths` and `valid`.

    Raises:
        LiquidError: standard input or a pipe is given as both, is empty, is not text, or cannot be read or
            copied.
    """
    kept: dict[str, str] = {}
    for path in {*paths, *valid}:
        if is_read_once(path) and path in paths and path in valid:
            raise LiquidError(f"{path} is given as text and as held-out text, but can be read only once")
    for path in dict.fromkeys([*paths, *valid]):
        if is_read_once(path):
            kept[path] = str(_keep(path, folder, len(kept), options or ReadingOptions()).absolute())
        else:
            kept[path] = path if path.startswith(PREFIX) else str(Path(path).absolute())
    return [kept[path] for path in paths], [kept[path] for path in valid]


def _keep(path: str, folder: Path, number: int, options: ReadingOptions) -> Path:
    standard, suffixes = path == str(STANDARD_INPUT), Path(path).suffixes
    name = "standard input" if standard else path
    packed = ".gz" if suffixes[-1:] == [".gz"] else ""
    suffix = (suffixes[:-1] if packed else suffixes)[-1:]
    kind = suffix[0] if suffix and suffix[0] in (*TEXT_SUFFIXES, *TIMED_SUFFIXES) else ".txt"

    def fill(part: Path) -> None:
        with part.open("wb") as target:
            if not standard:
                with Path(path).open("rb") as source:
                    shutil.copyfileobj(source, target)
            elif sys.stdin is not None:
                shutil.copyfileobj(sys.stdin.buffer, target)
        if not part.stat().st_size:
            raise LiquidError(f"{name}: empty, there is no text in it")
        if not packed:
            with part.open("rb") as source:
                for _ in decoded(source, name, PART, options.encoding, options.errors):
                    pass

    return write_file(folder / ("standard-input.txt" if standard else f"input-{number}{kind}{packed}"), fill)
