"""Paths ▶ documents, whole or in parts, and documents ▶ what is trained on and what is held out."""

import glob
import gzip
import hashlib
import json
import os
import random
import re
import sys
import zlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from io import BufferedIOBase
from pathlib import Path
from typing import NamedTuple, cast

from liquidlm.errors import LiquidError, counted
from liquidlm.text.event_files import read_events
from liquidlm.text.hub import PREFIX, dataset_texts, parse_name
from liquidlm.text.utf8 import decode, decoded

TEXT_SUFFIXES = (".txt", ".md", ".rst", ".jsonl")  # what is taken from a folder, plain or with .gz after it
TIMED_SUFFIXES = (".txt", ".log", ".jsonl", ".srt", ".vtt")  # the same where the text has times
STANDARD_INPUT = Path("-")

PART = 1 << 20
"""Characters of a document, about, that are read at a time."""
# GPT-2's pre-tokeniser never joins a space to the word before it, so a text may be cut in front of the first
# space after a word and encoded in parts. Not in front of a second one: "a  b" is "a", " ", " b". And not at
# any \s: U+001C is white space to Python, but part of a word to the pre-tokeniser.
CUT = re.compile(r"(?<=\S)[ \n]")

FEW_DOCUMENTS = 10  # fewer than this are cut, each one, into training and validation text


@dataclass(frozen=True)
class Document:
    """A text, or a part of one, and where it came from.

    Attributes:
        continues: it goes on where the document before it ended.
        path: which of the paths asked for it came from, 0, 1, …
        marks: (character, time) of each event, if the text has times: from there on it is of this time, in
            seconds; the first is at character 0.
    """

    text: str
    source: str
    continues: bool = False
    path: int = 0
    marks: tuple[tuple[int, float], ...] = ()

    def part(self, begin: int, end: int) -> "Document":
        """Its characters from `begin` to `end`, with their times."""
        before = [time for at, time in self.marks if at <= begin][-1:]
        within = [(at - begin, time) for at, time in self.marks if begin < at < end]
        return replace(self, text=self.text[begin:end], marks=(*((0, time) for time in before), *within))


def read_documents(
    paths: str | Path | Sequence[str | Path],
    longest: int | None = None,
    *,
    timestamps: bool = False,
    left_out: Callable[[str], object] = lambda name: None,
) -> Iterator[Document]:
    """The documents of `paths`, in the order given; those of a folder or a glob sorted by name.

    A path is a file, a folder (searched recursively for .txt, .md, .rst, .jsonl and their .gz; hidden
    names are passed over), a glob such as ``books/**/*.txt``, ``-`` for standard input, or ``hf:NAME`` for a
    Hugging Face data set, each row of which is a document (see `hf_datasets`). A ``.gz`` is
    decompressed. Each line of a ``.jsonl`` file is a JSON object, and its "text" is a document; any other
    file is one document. Text is UTF-8, with or without a byte order mark, and otherwise kept exactly
    as it is. A file named twice, or by two links, is read once. Paths are looked up at once; the files are
    read one by one, as the iterator is consumed. An empty file of a folder or a glob is left out, and
    `left_out` told its name.

    With `longest`, a document of more characters comes in parts of about so many, each cut off before white
    space where there is some: no file is ever whole in memory.

    With `timestamps` the text of every file has times, which the documents' `marks` keep; what a file may
    look like is said in `timed.read_events`. Parts are of whole events then. From a folder .txt, .log,
    .jsonl, .srt and .vtt are taken.

    Raises:
        LiquidError: naming the file: it is missing, unreadable, named and empty, not UTF-8 text (what it is
            instead, or the byte, is named), damaged gzip, or has a bad JSON line or time (the line is named);
            a folder has no text file; no path.
    """
    if isinstance(paths, str | Path):
        paths = [paths]
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
    return _read_all(list(found.values()), longest, timestamps, left_out)


class Source(NamedTuple):
    """A file or a data set to read, which of the paths it comes from, and whether it was named itself."""

    path: Path | str
    number: int
    named: bool


def _identity(file: Path) -> object:
    """The same for every name of a file, links of either kind included."""
    if file == STANDARD_INPUT:
        return file
    facts = file.stat()
    return (facts.st_dev, facts.st_ino) if facts.st_ino else file.resolve()


def _read_all(
    sources: Sequence[Source], longest: int | None, timestamps: bool, left_out: Callable[[str], object]
) -> Iterator[Document]:
    """The documents of all; of those that were not named an empty one is left out."""
    nothing = True
    for path, number, named in sources:
        empty = True
        documents = (
            _read_dataset(path, longest) if isinstance(path, str) else _read(path, longest, timestamps)
        )
        for document in documents:
            empty = nothing = False
            yield replace(document, path=number)
        if empty and named:
            name = "standard input" if path == STANDARD_INPUT else path
            raise LiquidError(f"{name}: empty, there is no text in it")
        if empty:
            left_out(str(path))
    if nothing:
        raise LiquidError(f"{sources[0].path}: empty, and so is every other file: there is no text in them")


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
    raise LiquidError(f"{path}: no such file or folder, and nothing matches it as a pattern")


def _text_files(folder: Path, wanted: Sequence[str]) -> list[Path]:
    files = [file for file in folder.rglob("*") if _suffix(file) in wanted and file.is_file()]
    shown = sorted(f for f in files if not any(part.startswith(".") for part in f.relative_to(folder).parts))
    if not shown:
        suffixes = ", ".join(wanted)
        raise LiquidError(f"{folder}: the folder has no text file ({suffixes}, or one of these with .gz)")
    return shown


def _suffix(file: Path) -> str:
    """The suffix that says what is in the file: that of ``a.txt.gz`` is .txt."""
    return Path(file.name.lower().removesuffix(".gz")).suffix


def _read(path: Path, longest: int | None, timestamps: bool) -> Iterator[Document]:
    """The documents of one file, in parts."""
    name = "standard input" if path == STANDARD_INPUT else str(path)
    try:
        with _open(path) as stream:
            if timestamps:
                found = _timed(stream, name, _suffix(path), longest)
            else:
                texts = _texts(stream, name, _suffix(path), longest)
                found = (document for parts in texts for document in _without_blank(parts, name))
            yield from found
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise LiquidError(f"{name}: damaged gzip file ({error})") from error
    except OSError as error:
        raise LiquidError(f"{name}: cannot be read ({error.strerror or error})") from error


def _read_dataset(name: str, longest: int | None) -> Iterator[Document]:
    for text in dataset_texts(name):
        yield from _without_blank(parts(iter([text]), longest), name)


def _open(path: Path) -> AbstractContextManager[BufferedIOBase]:
    if path == STANDARD_INPUT:
        return nullcontext(cast(BufferedIOBase, sys.stdin.buffer))
    return gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb")


def _texts(stream: BufferedIOBase, name: str, suffix: str, longest: int | None) -> Iterator[Iterator[str]]:
    """The texts of an open file, each in parts: one per line of .jsonl, else one."""
    if suffix == ".jsonl":
        yield from (parts(iter([text]), longest) for text in _json_texts(stream, name))
    else:
        yield parts(decoded(stream, name, longest), longest)


def _timed(stream: BufferedIOBase, name: str, suffix: str, longest: int | None) -> Iterator[Document]:
    """The documents of an open file whose text has times, in parts of at least `longest` characters."""
    for events in read_events(_lines(decoded(stream, name, PART)), suffix, name):
        texts, marks, size, continues = [], [], 0, False
        for event in events:
            texts.append(f"\n{event.text}" if texts or continues else event.text)
            marks.append((size, event.time))
            size += len(texts[-1])
            if longest is not None and size >= longest:
                yield Document("".join(texts), name, continues, marks=tuple(marks))
                texts, marks, size, continues = [], [], 0, True
        if texts and (continues or "".join(texts).strip()):
            yield Document("".join(texts), name, continues, marks=tuple(marks))


def _lines(texts: Iterable[str]) -> Iterator[str]:
    """The lines of a text that comes in parts, without their ends."""
    rest = ""
    for text in texts:
        *lines, rest = (rest + text).split("\n")
        yield from lines
    if rest:
        yield rest


def parts(texts: Iterable[str], longest: int | None) -> Iterator[str]:
    """Texts end to end, in parts of at least `longest` characters cut before white space where there is some;
    with None in one."""
    if longest is None:
        yield "".join(texts)
        return
    rest = ""
    for text in texts:
        rest += text
        while len(rest) > 2 * longest:
            found = CUT.search(rest, longest, 2 * longest)
            cut = found.start() if found else 2 * longest
            yield rest[:cut]
            rest = rest[cut:]
    yield rest


def _without_blank(parts: Iterator[str], name: str) -> Iterator[Document]:
    """The parts of a text as documents; none if there is nothing but white space."""
    held, started = "", False
    for part in parts:
        held += part
        if started or not held.isspace():
            if held:
                yield Document(held, name, continues=started)
            held, started = "", started or bool(part)


def _json_texts(lines: Iterable[bytes], name: str) -> Iterator[str]:
    for number, line in enumerate(lines, start=1):
        where = f"{name}, line {number}"
        line = decode(line, where)
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


@dataclass(frozen=True)
class Survey:
    """What one pass over documents finds.

    Attributes:
        lengths: characters of each document.
        paths: which of the paths asked for each came from.
        digest: SHA-256 of the texts and of where each begins.
    """

    lengths: Sequence[int]
    paths: Sequence[int]
    digest: str


def survey(documents: Iterable[Document]) -> Survey:
    """Read documents once and keep none."""
    lengths, paths, digest = array("q"), array("q"), hashlib.sha256()
    for document in documents:
        if document.continues:
            lengths[-1] += len(document.text)
        else:
            lengths.append(len(document.text))
            paths.append(document.path)
            digest.update(b"\0")  # which is in no text
        digest.update(document.text.encode())
        if document.marks:
            digest.update(repr(document.marks).encode())
    return Survey(lengths, paths, digest.hexdigest())


def split_points(lengths: Sequence[int], valid_fraction: float = 0.1, seed: int = 0) -> Sequence[int]:
    """Per document of so many characters, how many of its first are trained on; the rest is held out.

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
    if len(lengths) < FEW_DOCUMENTS:
        points = [int(length * (1 - valid_fraction)) for length in lengths]
    else:
        points = array("q", lengths)
        for number in _held_out(lengths, valid_fraction, seed):
            points[number] = 0
    if not any(points) or all(point == length for point, length in zip(points, lengths, strict=True)):
        raise LiquidError(
            f"{counted(len(lengths), 'document')} with {counted(sum(lengths), 'character')}: too little text"
            f" to hold out {valid_fraction:g} of it for validation; add text or change the fraction"
        )
    return points


def _held_out(lengths: Sequence[int], valid_fraction: float, seed: int) -> list[int]:
    room = valid_fraction * sum(lengths)
    found: list[int] = []
    for number in random.Random(seed).sample(range(len(lengths)), len(lengths)):
        if lengths[number] <= room:
            room -= lengths[number]
            found.append(number)
    return found or [min(range(len(lengths)), key=lengths.__getitem__)]


def portions(
    documents: Iterable[Document], points: Sequence[int], held_out: bool = False
) -> Iterator[Document]:
    """What is trained on of documents, up to each one's of `split_points`, or what is held out."""
    number, begin = -1, 0
    for document in documents:
        if not document.continues:
            number, begin = number + 1, 0
        cut = min(max(points[number] - begin, 0), len(document.text))
        part = document.part(cut, len(document.text)) if held_out else document.part(0, cut)
        if part.text:
            continues = begin > points[number] if held_out else document.continues
            yield replace(part, continues=continues)
        begin += len(document.text)
