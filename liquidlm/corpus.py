"""Paths ▶ documents, and documents ▶ training and validation text."""

import ast
import glob
import gzip
import json
import os
import random
import sys
import sysconfig
import warnings
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import cast

from liquidlm.errors import LiquidError

TEXT_SUFFIXES = (".txt", ".md", ".rst", ".jsonl")  # what is taken from a folder, plain or with .gz after it
STANDARD_INPUT = Path("-")

FEW_DOCUMENTS = 10  # fewer than this are cut, each one, into training and validation text

Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef

BUILTIN_SHORTEST = 200  # characters; a shorter docstring collection is a heading, not a document
BUILTIN_LEAST = 100_000  # characters; with less there is nothing to learn from
# Tests, demos, other people's packages; pydoc_data holds the topics, which are read by themselves.
BUILTIN_SKIPPED = {"test", "tests", "idlelib", "turtledemo", "site-packages", "dist-packages", "pydoc_data"}


@dataclass(frozen=True)
class Document:
    """One text, and where it came from."""

    text: str
    source: str


def read_documents(paths: str | Path | Sequence[str | Path]) -> Iterator[Document]:
    """The documents of `paths`, in the order given; those of a folder or a glob sorted by name.

    A path is a file, a folder (searched recursively for .txt, .md, .rst, .jsonl and their .gz; hidden
    names are passed over), a glob such as ``books/**/*.txt``, or ``-`` for standard input. A ``.gz`` is
    decompressed. Each line of a ``.jsonl`` file is a JSON object, and its "text" is a document; any other
    file is one document. Text is UTF-8, with or without a byte order mark, and otherwise kept exactly
    as it is. A file named twice is read once. Paths are looked up at once; the files are read one
    by one, as the iterator is consumed.

    Raises:
        LiquidError: naming the file: it is missing, unreadable, empty, not UTF-8 text (the byte is named),
            damaged gzip, or has a bad JSON line (the line is named); a folder has no text file; no path.
    """
    if isinstance(paths, str | Path):
        paths = [paths]
    if not paths:
        raise LiquidError("no text given: name at least one file, folder or glob, or - for standard input")
    files: dict[Path, Path] = {}
    for path in paths:
        for file in _expand(str(path)):
            files.setdefault(file.resolve(), file)
    return (document for file in files.values() for document in _read(file))


def _expand(path: str) -> list[Path]:
    """The files that one path stands for."""
    if path == str(STANDARD_INPUT):
        return [STANDARD_INPUT]
    if os.path.isdir(path):
        return _text_files(Path(path))
    if os.path.exists(path):
        return [Path(path)]
    if matches := sorted(filter(os.path.exists, glob.glob(path, recursive=True))):  # no broken links
        return [file for match in matches for file in _expand(match)]
    raise LiquidError(f"{path}: no such file or folder, and nothing matches it as a pattern")


def _text_files(folder: Path) -> list[Path]:
    files = [file for file in folder.rglob("*") if _suffix(file) in TEXT_SUFFIXES and file.is_file()]
    shown = sorted(f for f in files if not any(part.startswith(".") for part in f.relative_to(folder).parts))
    if not shown:
        suffixes = ", ".join(TEXT_SUFFIXES)
        raise LiquidError(f"{folder}: the folder has no text file ({suffixes}, or one of these with .gz)")
    return shown


def _suffix(file: Path) -> str:
    """The suffix that says what is in the file: that of ``a.txt.gz`` is .txt."""
    return Path(file.name.lower().removesuffix(".gz")).suffix


def _read(path: Path) -> Iterator[Document]:
    """The documents of one file."""
    name = "standard input" if path == STANDARD_INPUT else str(path)
    empty = True
    try:
        with _open(path) as stream:
            for text in _texts(stream, name, _suffix(path)):
                if text and not text.isspace():
                    empty = False
                    yield Document(text, name)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise LiquidError(f"{name}: damaged gzip file ({error})") from error
    except OSError as error:
        raise LiquidError(f"{name}: cannot be read ({error.strerror or error})") from error
    if empty:
        raise LiquidError(f"{name}: empty, there is no text in it")


def _open(path: Path) -> AbstractContextManager[BufferedIOBase]:
    if path == STANDARD_INPUT:
        return nullcontext(cast(BufferedIOBase, sys.stdin.buffer))
    return gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb")


def _texts(stream: BufferedIOBase, name: str, suffix: str) -> Iterator[str]:
    """The texts of an open file: one per line of .jsonl, else one."""
    if suffix == ".jsonl":
        yield from _json_texts(stream, name)
    else:
        yield _decode(stream.read(), name)


def _decode(data: bytes, name: str) -> str:
    nul = data.find(b"\0")
    if nul >= 0:
        raise LiquidError(f"{name}: not a text file: there is a NUL byte at byte {nul}")
    try:
        return data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise LiquidError(
            f"{name}: not UTF-8 text: 0x{data[error.start]:02x} at byte {error.start}; convert it to UTF-8"
        ) from error


def _json_texts(lines: Iterable[bytes], name: str) -> Iterator[str]:
    for number, line in enumerate(lines, start=1):
        where = f"{name}, line {number}"
        line = _decode(line, where)
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise LiquidError(f"{where}: not JSON ({error})") from error
        if not isinstance(record, dict) or not isinstance(record.get("text"), str):
            raise LiquidError(f'{where}: each line must be a JSON object with a string "text"')
        try:
            record["text"].encode("utf-8")  # JSON can spell half of a surrogate pair, which is no character
        except UnicodeEncodeError as error:
            raise LiquidError(
                f'{where}: "text" has half of a surrogate pair at character {error.start}'
            ) from error
        yield record["text"]


def builtin_documents() -> Iterator[Document]:
    """Real English that needs no download: the documentation inside this Python (about 2 MB).

    First the language reference of ``help()`` (`pydoc_data`, a document per topic), then the docstrings of
    the standard library, a document per module: each docstring in the order of the source, under the name
    of what it describes. The sources are parsed, never imported. Tests, demos, installed packages and
    documents shorter than 200 characters are left out. The text depends on the version of Python.

    Raises:
        LiquidError: less than 100 KB was found (some distributions strip sources and topics).
    """
    documents = [d for d in [*_topics(), *_module_docstrings()] if len(d.text) >= BUILTIN_SHORTEST]
    found = sum(len(document.text) for document in documents)
    if found < BUILTIN_LEAST:
        raise LiquidError(
            f"this Python carries only {found:,} characters of documentation, too little to train on;"
            " give your own text files, or use a Python installed with its standard library's sources"
        )
    return iter(documents)


def _topics() -> Iterator[Document]:
    try:
        from pydoc_data.topics import topics
    except ImportError:  # Debian keeps it in a package of its own
        return
    # Many topics are sections of longer ones. Longest first, and what is already there is passed over:
    # the same text must not stand in the training and the validation part.
    seen: set[str] = set()
    for name, text in sorted(topics.items(), key=lambda item: (-len(item[1]), item[0])):
        paragraphs = {" ".join(paragraph.split()) for paragraph in text.split("\n\n")}
        if len(paragraphs & seen) < len(paragraphs) / 2:
            seen |= paragraphs
            yield Document(text, f"pydoc topic {name}")


def _module_docstrings() -> Iterator[Document]:
    root = Path(sysconfig.get_path("stdlib"))
    for file in sorted(root.rglob("*.py")):
        relative = file.relative_to(root)
        if BUILTIN_SKIPPED.isdisjoint(relative.parts):
            try:
                with warnings.catch_warnings(action="ignore"):  # invalid escapes are not our concern
                    module = ast.parse(file.read_bytes())
            except (OSError, SyntaxError, ValueError):
                continue
            name = ".".join(relative.with_suffix("").parts).removesuffix(".__init__")
            yield Document("\n\n".join(_docstrings(module, name)) + "\n", name)


def _docstrings(node: ast.AST, name: str) -> Iterator[str]:
    """The docstrings of a module, class or function and of what it defines, each under its dotted name."""
    if isinstance(node, ast.Module | Definition) and (docstring := ast.get_docstring(node)):
        yield f"{name}\n\n{docstring}"
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Definition):
            yield from _docstrings(child, f"{name}.{child.name}")
        elif isinstance(child, ast.stmt | ast.excepthandler):  # definitions under if, try, with
            yield from _docstrings(child, name)


def split_documents(
    documents: Sequence[Document], valid_fraction: float = 0.1, seed: int = 0
) -> tuple[list[Document], list[Document]]:
    """Training and validation documents: disjoint, together everything, in the order given.

    Fewer than 10 documents: each one is cut at character int(n·(1 − valid_fraction)), and its end held out
    (nanoGPT's split: the first 90 % train). 10 or more: whole documents are held out. In an order permuted
    by `seed`, each is held out if the characters held out then stay within `valid_fraction` of all; if none
    is short enough, the shortest is. So what is held out is as much as fits, and a document that is most of
    the text is trained on.

    Raises:
        LiquidError: a fraction not between 0 and 1, or too little text for both parts to have some.
    """
    if not 0 < valid_fraction < 1:
        raise LiquidError(f"valid_fraction must be between 0 and 1, both excluded, not {valid_fraction}")
    split = _cut_each if len(documents) < FEW_DOCUMENTS else _hold_out_whole
    train, valid = split(documents, valid_fraction, seed)
    if not train or not valid:
        characters = sum(len(document.text) for document in documents)
        raise LiquidError(
            f"{len(documents)} documents with {characters} characters are too little text"
            f" to hold out {valid_fraction:g} of it for validation; add text or change the fraction"
        )
    return train, valid


def _cut_each(
    documents: Sequence[Document], valid_fraction: float, _seed: int
) -> tuple[list[Document], list[Document]]:
    cuts = [(document, int(len(document.text) * (1 - valid_fraction))) for document in documents]
    train = [Document(document.text[:cut], document.source) for document, cut in cuts if cut > 0]
    valid = [Document(d.text[cut:], d.source) for d, cut in cuts if cut < len(d.text)]
    return train, valid


def _hold_out_whole(
    documents: Sequence[Document], valid_fraction: float, seed: int
) -> tuple[list[Document], list[Document]]:
    lengths = [len(document.text) for document in documents]
    room = valid_fraction * sum(lengths)
    held_out: set[int] = set()
    for index in random.Random(seed).sample(range(len(documents)), len(documents)):
        if lengths[index] <= room:
            room -= lengths[index]
            held_out.add(index)
    held_out = held_out or {lengths.index(min(lengths))}
    train = [document for index, document in enumerate(documents) if index not in held_out]
    return train, [documents[index] for index in sorted(held_out)]
