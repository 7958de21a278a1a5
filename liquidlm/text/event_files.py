"""Logs, subtitles, JSON Lines and CSV with times ▶ documents of events.

`clock/line_clock.py` finds the times of lines, `record_fields.py` times and texts of records, and
`timeline.py` says what becomes of a time that goes back.

The time of a token: all of an event's text is at the event's time, and so is the line break before it. A
document is its events with one line break between two. Its `<s>` is at the time of the first event, its
`</s>` at the time of the last. So gaps within an event are 0, and the gap before a line break tells a model
how long nothing happened.
"""

import copy
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeVar

from ..errors import LiquidError
from .clock.line_clock import LineClock
from .csv_records import CSV_SUFFIXES, csv_table
from .json_records import JSON_SUFFIXES, JsonRecord, is_json, json_records
from .reading import ReadingOptions
from .reading_facts import ReadingFacts
from .record_fields import ROW, RecordFields
from .subtitles import OTHER_KINDS, read_subtitles

T = TypeVar("T")

HEAD = 1000
"""Lines, or records, by which the kind of a file is settled."""
UNTIMED = 100
"""A log may begin with this many lines that have no time."""
FEW = 6
"""So many lines may stand before a log, however short, whose lines begin with a date and a time."""
BRACKETS = ("[", "{", "[{")
"""The first line of JSON that goes over several lines."""
SUBTITLES = (".srt", ".vtt")


class TextEvent(NamedTuple):
    """A piece of text, and its time in seconds."""

    time: float
    text: str


Numbered = tuple[int, TextEvent]
"""An event and the number of its line."""


def read_events(
    lines: Iterable[str],
    suffix: str,
    name: str,
    options: ReadingOptions | None = None,
    facts: ReadingFacts | None = None,
) -> Iterator[Iterator[TextEvent]]:
    """The documents of a file, each as its events in order.

    >>> log = ["[00:00] start", "[00:12] The door opens.", "It is dark."]
    >>> [list(document) for document in read_events(log, ".log", "door.log")]
    [[TextEvent(time=0.0, text='start'), TextEvent(time=12.0, text='The door opens.\\nIt is dark.')]]

    Take each document to its end before the next.

    Args:
        lines: the lines of the file.
        suffix: the kind of file.

            - ``.jsonl``, ``.ndjson``: each line is a JSON object with a time and a text (see
              `record_fields.py`) and is an event; consecutive ones are one document. A line that is a list of
              events, or ``{"events": [ … ]}``, is a separate document.
            - ``.csv``, ``.tsv``: each row is an event.
            - ``.srt``, ``.vtt``: a subtitle is an event, at the time when it appears.
            - any other: lines of JSON objects are read as such, and other lines among them continue the event
              before. Otherwise a line with a time is an event. The first lines decide the kind of time. A
              line without a time continues the event before it.
        name: stands for the file in the message of an error.
        options: what the user says about the file.
        facts: is filled with what was found and decided.

    Raises:
        LiquidError: a time is missing or cannot be read, or it goes back and that is to be an error. The
            message names the line.
    """
    options, facts = options or ReadingOptions(), facts or ReadingFacts()
    facts.name, facts.late = name, options.late
    lines = iter(lines)
    head = list(itertools.islice(lines, HEAD))
    every = itertools.chain(head, lines)
    if suffix in SUBTITLES:
        options.refuse_fields(name, "a file of subtitles")
        if options.clock.time_format is not None:
            raise LiquidError(f"{name}: subtitles have one form of time: leave --time-format out")
        facts.kind, facts.late = "subtitles", "error" if options.late == "error" else "sort"
        cues = read_subtitles(every, name, in_order=facts.late == "sort")
        yield _in_order(((one.line, TextEvent(one.time, one.text)) for one in cues), facts)
    elif suffix in OTHER_KINDS:
        raise LiquidError(f"{name}: subtitles of this kind are not read: convert the file to .srt or .vtt")
    elif suffix in CSV_SUFFIXES:
        yield _in_order(_csv_events(every, suffix, options, facts), facts)
    elif suffix in JSON_SUFFIXES or is_json(head):
        yield from _json_documents(every, suffix in JSON_SUFFIXES, options, facts)
    else:
        yield from _log(every, head, options, facts)


def _in_order(events: Iterable[Numbered], facts: ReadingFacts) -> Iterator[TextEvent]:
    """The events of a document without the numbers of their lines; no time goes back."""
    facts.timeline.begin()

    def placed() -> Iterator[TextEvent]:
        for number, event in events:
            facts.events += 1
            yield TextEvent(facts.timeline.place(event.time, number, facts.late, facts.name), event.text)

    return iter(sorted(placed(), key=lambda event: event.time)) if facts.late == "sort" else placed()


def _csv_events(
    lines: Iterable[str], suffix: str, options: ReadingOptions, facts: ReadingFacts
) -> Iterator[Numbered]:
    table = csv_table(lines, suffix, options, facts.name)
    head = list(itertools.islice(table.records, HEAD))
    if not head:
        return
    records = [record for _, record in head]
    fields = RecordFields.settle(records, table.options, facts.name, head[0][0], ROW)
    facts.kind = f"CSV, {fields.name}"
    for number, record in itertools.chain(head, table.records):
        yield number, TextEvent(*fields.event(record, f"{facts.name}, line {number}"))


def _json_documents(
    lines: Iterable[str], all_json: bool, options: ReadingOptions, facts: ReadingFacts
) -> Iterator[Iterator[TextEvent]]:
    """Consecutive lines that are one event each, and lines that are a list of events."""
    records = json_records(lines, facts.name, all_json)
    head = list(itertools.islice(records, HEAD))
    objects = [record for record in head if isinstance(record.value, dict)]
    if not head:
        return
    first = (objects or head)[0].number
    fields = RecordFields.settle([record.value for record in objects], options, facts.name, first)
    facts.kind = f"JSON, {fields.name}"
    whole = itertools.groupby(itertools.chain(head, records), lambda record: record.document)
    for _, run in whole:
        yield _in_order(_record_events(run, fields, facts, all_json), facts)


def _record_events(
    records: Iterable[JsonRecord], fields: RecordFields, facts: ReadingFacts, all_json: bool
) -> Iterator[Numbered]:
    """The events of a document; lines that are not JSON continue the event before."""

    def find(record: JsonRecord) -> Numbered | None:
        if isinstance(record.value, str) and not all_json:
            return None
        return record.number, TextEvent(*fields.event(record.value, f"{facts.name}, line {record.number}"))

    yield from _with_more_lines(records, find, lambda record: str(record.value), facts)


def _log(
    lines: Iterable[str], head: list[str], options: ReadingOptions, facts: ReadingFacts
) -> Iterator[Iterator[TextEvent]]:
    """The document of a log; none if it is empty."""
    head = [line.rstrip("\r\n") for line in head]
    if not any(head) and len(head) < HEAD:
        return
    first = next(line for line in head if line).strip()
    if first in BRACKETS or first.startswith('[{"'):
        raise LiquidError(
            f"{facts.name}: JSON over several lines; write one object in a line (for a list: jq -c '.[]')"
        )
    clock = LineClock.settle(head, options.clock, facts.name)
    options.refuse_fields(facts.name, "a log of plain lines")
    facts.kind = clock.name
    _check_beginning(head, copy.deepcopy(clock), facts.name)

    def find(line: str) -> TextEvent | None:
        found = clock.find(line)
        return None if found is None else TextEvent(found.time, found.without(line))

    yield stamped_events(lines, find, facts)


def stamped_events(
    lines: Iterable[str], find: Callable[[str], TextEvent | None], facts: ReadingFacts
) -> Iterator[TextEvent]:
    """Lines with a time as events in order, each with the lines without a time after it.

    Args:
        lines: of a log.
        find: the event of a line; None for a line without a time.
        facts: has the policy for times that go back, and is filled with what was found.

    Raises:
        LiquidError: a time goes back, and that is to be an error.
    """
    numbered = ((number, line.rstrip("\r\n")) for number, line in enumerate(lines, start=1))

    def event(numbered: tuple[int, str]) -> Numbered | None:
        found = find(numbered[1])
        return None if found is None else (numbered[0], found)

    return _in_order(_with_more_lines(numbered, event, lambda numbered: numbered[1], facts), facts)


def _check_beginning(head: list[str], clock: LineClock, name: str) -> None:
    """Raise LiquidError if a log begins with too many lines without a time: perhaps it is not a log.

    A few lines, such as a title or comments, are left out.
    """
    begin = next((number for number, line in enumerate(head) if clock.find(line)), len(head))
    untimed = [
        number
        for number, line in enumerate(head[:begin], start=1)
        if line.strip() and not line.startswith("#")
    ]
    timed = 1 + sum(clock.find(line) is not None for line in head[begin + 1 :])
    few = max(timed, FEW) if clock.begins_lines else timed
    if untimed and len(untimed) >= min(few, UNTIMED + 1):
        raise LiquidError(
            f"{name}, line {untimed[0]}: no time in it; with timestamps the lines of a text must"
            " have times, such as 2026-01-31T12:00:00, [00:12:31] or 1700000000.5; --time-format says how"
            " others are written"
        )


def _with_more_lines(
    items: Iterable[T], find: Callable[[T], Numbered | None], text: Callable[[T], str], facts: ReadingFacts
) -> Iterator[Numbered]:
    """The events of lines: each has the lines without a time after it."""
    found: Numbered | None = None
    more: list[str] = []
    for item in items:
        if (event := find(item)) is not None:
            if found is not None:
                yield _continued(found, more)
            found, more = event, []
        elif found is None:
            facts.before += bool(text(item).strip())
        else:
            facts.untimed += bool(text(item).strip())
            more.append(text(item))
    if found is not None:
        yield _continued(found, more)


def _continued(found: Numbered, more: list[str]) -> Numbered:
    """The event with the lines after it, without empty ones at its ends."""
    number, event = found
    while more and not more[-1]:
        more.pop()
    lines = [event.text, *more] if event.text else more
    return number, event._replace(text="\n".join(lines) if event.text else "\n".join(lines).lstrip("\n"))
