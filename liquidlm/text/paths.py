"""Paths ▶ the files and data sets that they stand for: files, folders, globs, standard input, `hf:NAME`."""

import glob
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import LiquidError
from .hub import PREFIX, parse_name

TEXT_SUFFIXES = (".txt", ".md", ".rst", ".jsonl", ".ndjson")
"""The files of a folder that are text; `.gz` may follow."""
TIMED_SUFFIXES = (".txt", ".log", ".jsonl", ".ndjson", ".csv", ".tsv", ".srt", ".vtt")
"""The files of a folder that are text with times; `.gz` may follow."""
STANDARD_INPUT = Path("-")


class Source(NamedTuple):
    """A file or a data set to read.

    Attributes:
        path: the file, or the name of the data set.
        number: the number of the given path that it is from: 0, 1, …
        named: whether it was given itself, not found in a folder or by a glob.
    """

    path: Path | str
    number: int
    named: bool

    @property
    def name(self) -> str:
        """The name for messages."""
        return "standard input" if self.path == STANDARD_INPUT else str(self.path)


def find_sources(paths: Sequence[str | Path], timestamps: bool) -> list[Source]:
    """The files and data sets that `paths` stand for, in their order, each once.

    Raises:
        LiquidError: no path is given, a path does not exist, or a folder has no text file.
    """
    if not paths:
        raise LiquidError("no text given: name at least one file, folder or glob, or - for standard input")
    found: dict[object, Source] = {}
    suffixes = TIMED_SUFFIXES if timestamps else TEXT_SUFFIXES
    for number, path in enumerate(map(str, paths)):
        if path.startswith(PREFIX):
            if timestamps:
                raise LiquidError(
                    f"{path}: the times of a data set cannot be read; write it to a .jsonl file"
                )
            parse_name(path)
            found.setdefault(path, Source(path, number, named=True))
            continue
        for file in _expand(path, suffixes):
            source = found.setdefault(key := _identity(file), Source(file, number, named=False))
            found[key] = source._replace(named=source.named or file == Path(path))
    return list(found.values())


def text_suffix(file: Path) -> str:
    """The suffix that tells what is in the file: that of ``a.txt.gz`` is .txt."""
    return Path(file.name.lower().removesuffix(".gz")).suffix


def _identity(file: Path) -> object:
    """A key that is the same for all names of a file, symbolic and hard links included."""
    if file == STANDARD_INPUT:
        return file
    facts = file.stat()
    return (facts.st_dev, facts.st_ino) if facts.st_ino else file.resolve()


def _expand(path: str, suffixes: Sequence[str]) -> list[Path]:
    """The files that one path stands for."""
    if path == str(STANDARD_INPUT):
        return [STANDARD_INPUT]
    if os.path.isdir(path):
        return _text_files(Path(path), suffixes)
    if os.path.exists(path):
        return [Path(path)]
    matches = sorted(glob.glob(path, recursive=True))
    if matches := [match for match in matches if os.path.isfile(match) or os.path.isdir(match)]:
        return [file for match in matches for file in _expand(match, suffixes)]
    raise LiquidError(f"{path}: no such file or folder, and the pattern matches nothing; check the path")


def _text_files(folder: Path, wanted: Sequence[str]) -> list[Path]:
    """The files of a folder and its folders with these suffixes, sorted; hidden ones are left out."""
    files = [file for file in folder.rglob("*") if text_suffix(file) in wanted and file.is_file()]
    shown = sorted(f for f in files if not any(part.startswith(".") for part in f.relative_to(folder).parts))
    if not shown:
        suffixes = ", ".join(wanted)
        raise LiquidError(f"{folder}: the folder has no text file ({suffixes}, or one of these with .gz)")
    return shown
