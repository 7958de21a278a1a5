"""Files and data sets ▶ documents, whole or in parts.

`read_documents` finds the files (`paths.py`), opens and decodes them (`utf8.py`), and cuts long documents
into parts (`cutting.py`). Text with times is read by `event_files.py`. `held_out.py` divides documents into
training and held-out text.
"""

import gzip
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from io import BufferedIOBase
from pathlib import Path
from typing import NamedTuple, cast

from ..errors import LiquidError
from .cutting import PART, lines, parts
from .event_files import TextEvent, read_events
from .field_names import find_path, value_at
from .hub import dataset_texts
from .json_lines import json_lines
from .json_records import JSON_SUFFIXES
from .paths import STANDARD_INPUT, Source, find_sources, text_suffix
from .reading import ReadingOptions
from .reading_facts import ReadingFacts
from .utf8 import decoded, encoded


@dataclass(frozen=True)
class Document:
    """A text, or a part of one, and its source.

    Attributes:
        text: its characters.
        source: the name of the file or data set.
        continues: whether it continues the document before it.
        path: the number of the given path that it is from: 0, 1, …
        marks: (position, time) of each event, if the text has times: the characters from there on have this
            time, in seconds. The first position is 0.
    """

    text: str
    source: str
    continues: bool = False
    path: int = 0
    marks: tuple[tuple[int, float], ...] = ()

    def part(self, begin: int, end: int) -> "Document":
        """The characters from `begin` to `end`, with their times."""
        before = [time for at, time in self.marks if at <= begin][-1:]
        within = [(at - begin, time) for at, time in self.marks if begin < at < end]
        return replace(self, text=self.text[begin:end], marks=(*((0, time) for time in before), *within))

    def events(self) -> list[tuple[float | None, str]]:
        """The time and text of each event. A document without times is one event, with the time None.

        Example:
            >>> Document("on off", "door.log", marks=((0, 5.0), (3, 9.0))).events()
            [(5.0, 'on '), (9.0, 'off')]
        """
        if not self.marks:
            return [(None, self.text)]
        ends = [*(at for at, _ in self.marks[1:]), len(self.text)]
        return [(time, self.text[at:end]) for (at, time), end in zip(self.marks, ends, strict=True)]


def read_documents(
    paths: str | Path | Sequence[str | Path],
    part_size: int | None = None,
    *,
    timestamps: bool = False,
    options: ReadingOptions | None = None,
    left_out: Callable[[str], object] = lambda name: None,
    found: Callable[[ReadingFacts], object] = lambda facts: None,
) -> Iterator[Document]:
    """The documents of `paths`, in the given order; those of a folder or a glob are sorted by name.

    Text is UTF-8, with or without a byte order mark. It is kept exactly as it is. The paths are checked at
    once; the files are read one by one as the iterator advances.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "a.txt").write_text("One file is one document.", encoding="utf-8")
    ...     _ = Path(folder, "b.jsonl").write_text('{"text": "One."}\\n{"text": "Two."}', encoding="utf-8")
    ...     [document.text for document in read_documents(folder)]
    ['One file is one document.', 'One.', 'Two.']

    Args:
        paths: each is one of

            - a file. Each line of a ``.jsonl`` file is a JSON object, and its "text" (or the field that the
              options name) is a document; any other file is one document. A ``.gz`` file is decompressed. A
              file that is given twice is read once.
            - a folder: its .txt, .md, .rst, .jsonl and .ndjson files and those of its folders, also with .gz;
              hidden names are left out.
            - a glob such as ``books/**/*.txt``.
            - ``-`` for standard input.
            - ``hf:NAME`` for a Hugging Face data set (see `hub.py`): each row is a document.
        part_size: a document of more than 2·`part_size` characters comes in parts of at least `part_size`
            characters, cut before white space if possible. Then no file is in memory as a whole.
        timestamps: the text of every file has times (see `event_files.read_events`); they go to the
            documents' `marks`. Parts consist of whole events. From a folder, the files of
            `paths.TIMED_SUFFIXES` are read.
        options: what the user says about the files.
        left_out: called with the name of each empty file of a folder or a glob.
        found: called after each file with times, with what was found in it.

    Raises:
        LiquidError: a file is missing, unreadable, empty though given by name, not UTF-8 text or damaged, or
            has a bad JSON line or time; a folder has no text file; there is no path. The message names the
            file, and the line or byte.
    """
    if isinstance(paths, str | Path):
        paths = [paths]
    reader = _Reader(part_size, timestamps, options or ReadingOptions(), found)
    return _read_all(find_sources(paths, timestamps), reader, left_out)


class _Reader(NamedTuple):
    """How sources are read: the arguments of `read_documents`."""

    part_size: int | None
    timestamps: bool
    options: ReadingOptions
    found: Callable[[ReadingFacts], object]


def _read_all(
    sources: Sequence[Source], reader: _Reader, left_out: Callable[[str], object]
) -> Iterator[Document]:
    """The documents of all sources. An empty source is an error if it was given by name."""
    nothing = True
    for source in sources:
        empty = True
        for document in _read(source, reader):
            empty = nothing = False
            yield replace(document, path=source.number)
        if empty and source.named:
            raise LiquidError(f"{source.name}: empty, there is no text in it; give a file with text")
        if empty:
            left_out(source.name)
    if nothing:
        raise LiquidError(f"{sources[0].name}: empty, and so is every other file; give a file with text")


def _read(source: Source, reader: _Reader) -> Iterator[Document]:
    """The documents of one source, in parts."""
    if isinstance(source.path, str):
        _check_dataset_options(source.name, reader.options)
        for text in dataset_texts(source.path):
            yield from _without_blank(parts(iter([text]), reader.part_size), source.name)
        return
    if reader.timestamps:
        yield from _timed(source, reader)
        return
    with _opened(source) as stream:
        for text in _texts(stream, source.name, text_suffix(source.path), reader):
            yield from _without_blank(text, source.name)


def _check_dataset_options(name: str, options: ReadingOptions) -> None:
    """Raises LiquidError for an option that says how a file is read: a data set has its own."""
    options.refuse_fields(name, "a data set, whose column is named after it: hf:NAME?column=TEXT")
    if options.encoding is not None:
        raise LiquidError(f"{name}: a data set has no --encoding: leave it out")


@contextmanager
def _opened(source: Source) -> Iterator[BufferedIOBase]:
    """The bytes of a file, decompressed if its name ends in .gz, or of standard input; a context manager.

    Raises:
        LiquidError: within the `with` block too: the file cannot be read or is damaged.
    """
    try:
        with _open(Path(source.path)) as stream:
            yield stream
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise LiquidError(f"{source.name}: damaged gzip file ({error})") from error
    except OSError as error:
        raise LiquidError(f"{source.name}: cannot be read ({error.strerror or error})") from error


def _open(path: Path) -> AbstractContextManager[BufferedIOBase]:
    if path == STANDARD_INPUT:
        return nullcontext(cast(BufferedIOBase, sys.stdin.buffer))
    return gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb")


def _texts(stream: BufferedIOBase, name: str, suffix: str, reader: _Reader) -> Iterator[Iterator[str]]:
    """The texts of an open file, each in parts: one per line of .jsonl, otherwise one."""
    size = reader.part_size
    if suffix in JSON_SUFFIXES:
        texts = _json_texts(stream, name, reader.options)
        yield from (parts(iter([text]), size) for text in texts)
    else:
        reader.options.refuse_fields(name, "plain text")
        yield parts(decoded(stream, name, size, reader.options.encoding, reader.options.errors), size)


def _json_texts(stream: BufferedIOBase, name: str, options: ReadingOptions) -> Iterator[str]:
    """The text of each line."""
    field = options.text_field or "text"
    texts = lines(decoded(stream, name, PART, options.encoding, options.errors))
    for number, record in json_lines(texts, name):
        where = f"{name}, line {number}"
        text = value_at(record, find_path(record, field)) if isinstance(record, dict) else None
        if not isinstance(text, str):
            raise LiquidError(
                f'{where}: each line must be a JSON object with a string "{field}"'
                " (--text-field names another field)"
            )
        encoded(text, f'{where}: "{field}"')
        yield text


def read_events_of(
    source: Source, options: ReadingOptions, facts: ReadingFacts
) -> Iterator[Iterator[TextEvent]]:
    """The documents of a file with times, each as its events in order (see `read_events`).

    Raises:
        LiquidError: the source is a data set, or the file cannot be read.
    """
    with _opened(source) as stream:
        texts = decoded(stream, source.name, PART, options.encoding, options.errors)
        yield from read_events(lines(texts), text_suffix(Path(source.path)), source.name, options, facts)


def _timed(source: Source, reader: _Reader) -> Iterator[Document]:
    """The documents of a file with times, in parts of at least `part_size` characters."""
    facts, part_size, name = ReadingFacts(), reader.part_size, source.name
    for events in read_events_of(source, reader.options, facts):
        texts, marks, size, continues = [], [], 0, False
        for event in events:
            texts.append(f"\n{event.text}" if texts or continues else event.text)
            marks.append((size, event.time))
            size += len(texts[-1])
            if part_size is not None and size >= part_size:
                yield Document("".join(texts), name, continues, marks=tuple(marks))
                texts, marks, size, continues = [], [], 0, True
        if texts and (continues or "".join(texts).strip()):
            yield Document("".join(texts), name, continues, marks=tuple(marks))
    if facts.events:
        reader.found(facts)


def _without_blank(text: Iterator[str], name: str) -> Iterator[Document]:
    """The parts of a text as documents; none if the text is empty or white space."""
    held, started = "", False
    for part in text:
        held += part
        if started or not held.isspace():
            if held:
                yield Document(held, name, continues=started)
            held, started = "", started or bool(part)
