"""Standard input as it grows ▶ its lines with their surprise, printed as they come."""

import json
import queue
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import BinaryIO

import typer
from rich.console import Console
from rich.text import Text

from ..errors import LiquidError
from ..inference.rarity import NOTHING
from ..inference.state_files import alone
from ..inference.surprise import Line, SurpriseReader
from ..ops.native.step import Weights
from ..runtime.memory import peak_memory
from ..runtime.precision import best_device
from ..runtime.signals import stop_signals
from ..text.reading import ReadingOptions
from .standard_input import READ, Pieces
from .watch_source import Frozen
from .watch_summary import Summary

PATIENCE = 0.2
"""Seconds without input after which signals are looked for."""
SAVED_EVERY = 60.0
MARK = "▲"
BREAK = "↵"
"""Stands for a line break in a row of CSV, which is printed as one line."""
SEEN = str.maketrans(dict.fromkeys((*range(9), *range(10, 32), *range(127, 160)), "�"))
"""Control characters of a text, which a terminal would obey."""


def watch_lines(
    source: Frozen,
    *,
    state: Path | None,
    alarms: float,
    baseline: Path | None,
    only_marked: bool,
    as_json: bool,
    weights: Weights,
    options: ReadingOptions,
    keep_options: bool,
) -> None:
    """Print the lines of standard input as they come, each with its bits, and a mark if it stands out.

    It ends at the end of the input, on Ctrl-C and SIGTERM, and when standard output is closed. The state is
    written to the file `state` then, and every minute before. If the file exists, the reading continues from
    it. JSON is escaped if standard output is not UTF-8, so that no character is lost.

    The log is read as the options say, or, with `keep_options`, as it was read before, if there is a state.
    """
    source.check()
    with nullcontext() if state is None else alone(state):
        pieces, device = Pieces(), best_device()
        if state is not None and state.is_file() and state.stat().st_size:
            given = None if keep_options else options
            reader = source.go_on(state, device, alarms=alarms, weights=weights, options=given)
        else:
            first = _first_lines(baseline, pieces) if source.needs_lines else b""
            reader = source.begin(first, device, alarms=alarms, weights=weights, options=options)
            if baseline is not None:
                _read_baseline(reader, baseline)
        try:
            marked = _watch(reader, state, pieces, printer(only_marked, as_json), as_json)
        finally:
            source.end(reader)
    if marked:
        raise typer.Exit(1)


def _first_lines(baseline: Path | None, pieces: Pieces) -> bytes:
    """The first lines that will be read."""
    if baseline is None:
        return pieces.first_lines()
    with _opened(baseline) as source:
        return source.read(READ)


@contextmanager
def _opened(baseline: Path) -> Iterator[BinaryIO]:
    try:
        with baseline.open("rb") as source:
            yield source
    except OSError as error:
        raise LiquidError(f"cannot read the baseline {baseline}: {error.strerror}") from error


def _read_baseline(reader: SurpriseReader, file: Path) -> None:
    """Read a log in which all is normal."""
    with _opened(file) as source, stop_signals() as stopped:
        while not stopped and (data := source.read(READ)):
            reader.push(data)
        if stopped:
            raise typer.Exit(128 + stopped[0])
    reader.end()
    print(f"{reader.rarity.lines:,} lines of {file} are what is usual", file=sys.stderr)


def _watch(
    reader: SurpriseReader,
    state: Path | None,
    pieces: Pieces,
    show: Callable[[list[Line]], None],
    as_json: bool,
) -> int:
    """Print lines until the end; returns how many were marked."""

    def save() -> None:
        if state is not None and reader.state.get_seq_length():
            reader.save(state)

    begin = saved = time.perf_counter()
    count, summary = 0, Summary(as_json)
    said: dict[str, str] = {}
    with stop_signals() as stopped:
        try:
            for lines in _as_they_come(reader, pieces, stopped):
                count += len(lines)
                show(lines)
                summary.add(lines)
                quiet = NOTHING if lines else reader.silent(time.time())
                if quiet.stands_out:
                    summary.silence(quiet)
                _say(reader.notes(), said)
                if time.perf_counter() - saved > SAVED_EVERY:
                    save()
                    saved = time.perf_counter()
        finally:
            with stop_signals(insistent=False):  # a second Ctrl-C waits for this
                save()
    seconds = time.perf_counter() - begin
    _say({topic: note for topic, note in reader.notes().items() if note not in said.values()}, {})
    summary.end()
    print(
        f"{count:,} lines, {summary.marked:,} of them marked; {count / seconds:,.0f} lines/s,"
        f" {peak_memory() / 2**20:,.0f} MiB peak memory",
        file=sys.stderr,
    )
    return summary.marked


def _say(notes: dict[str, str], said: dict[str, str]) -> None:
    """Print the notes on how the log is read that are not in `said`, and put them there."""
    for topic, note in notes.items():
        if topic not in said:
            said[topic] = note
            print(f"note: the log: {note}", file=sys.stderr)


def _as_they_come(reader: SurpriseReader, pieces: Pieces, stopped: list[int]) -> Iterator[list[Line]]:
    """The lines of standard input, all that wait at once, until its end or a signal."""
    while not stopped:
        try:
            data = pieces.next(PATIENCE)
        except queue.Empty:
            yield []
            continue
        if not data:
            break
        yield reader.push(data)
    yield reader.end()


def printer(only_marked: bool, as_json: bool) -> Callable[[list[Line]], None]:
    """What prints lines: in colour on a terminal, bare where they go elsewhere, or as JSON objects."""
    console = Console(highlight=False)
    in_colour = console.is_terminal
    in_utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"

    def show(lines: list[Line]) -> None:
        for line in lines:
            if only_marked and not line.stands_out:
                continue
            if as_json:
                print(json.dumps(line._asdict(), ensure_ascii=not in_utf8))
                continue
            gap = "" if line.gap_bits is None else f"{line.gap_bits:6.1f}"
            text = line.text.rstrip("\r").replace("\n", BREAK)
            begin = f"{line.bits:8.1f}{gap} {MARK if line.stands_out else ' '} "
            begin += f"[{line.reason}] " if line.stands_out else ""
            if in_colour:
                style = "bold red" if line.stands_out else ""
                console.print(Text(begin + text.translate(SEEN), style=style), soft_wrap=True)
            else:
                print(begin + text)
        sys.stdout.flush()

    return show
