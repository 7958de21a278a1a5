"""Logs, subtitles and JSON Lines with times ▶ documents of events.

Known clocks: date and time (ISO 8601), syslog, ``[HH:]MM:SS``, seconds since 1970, any seconds in brackets.
`clocks.py` parses them (`find_stamp` for a line, `seconds` for one time); add another clock there.

The time of a token: all of an event's text is at the event's time, and so is the line break before it. A
document is its events with one line break between two. Its `<s>` is at the time of the first event, its
`</s>` at the time of the last. So gaps within an event are 0, and the gap before a line break tells a model
how long nothing happened.
"""

import itertools
import math
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ..errors import LiquidError
from .clocks import find_stamp, seconds
from .json_lines import json_lines
from .utf8 import encoded

CUE = re.compile(r"\s*((?:\d+:)?\d+:\d\d[.,]\d+)\s*-->")
"""The line with the times of a subtitle."""
TAG = re.compile(r"</?[a-zA-Z][^>]*>|<[\d:.]+>|\{\\[^}]*\}")
"""The markup of a subtitle."""


class TextEvent(NamedTuple):
    """A piece of text, and its time in seconds."""

    time: float
    text: str


def read_events(lines: Iterable[str], suffix: str, name: str) -> Iterator[Iterator[TextEvent]]:
    """The documents of a file, each as its events in order.

    >>> log = ["[00:00] start", "[00:12] The door opens.", "It is dark."]
    >>> [list(document) for document in read_events(log, ".log", "door.log")]
    [[TextEvent(time=0.0, text='start'), TextEvent(time=12.0, text='The door opens.\\nIt is dark.')]]

    Take each document to its end before the next.

    Args:
        lines: the lines of the file.
        suffix: the kind of file.

            - ``.jsonl``: each line ``{"time": …, "text": …}`` is an event; consecutive ones are one document.
              A line that is a list of events, or ``{"events": [ … ]}``, is a separate document.
            - ``.srt``, ``.vtt``: a subtitle is an event, at the time when it appears.
            - any other: a line that begins with a time, plain or in brackets, is an event. The first line
              decides the kind of time. A line without a time continues the event before it.
        name: stands for the file in the message of an error.

    Raises:
        LiquidError: a time is missing, cannot be read, or is before the time of the event before it. The
            message names the line.
    """
    if suffix == ".jsonl":
        yield from _json_documents(lines, name)
    else:
        yield _in_order((_subtitles if suffix in (".srt", ".vtt") else _stamped)(lines, name), name)


def _in_order(events: Iterable[tuple[int, TextEvent]], name: str) -> Iterator[TextEvent]:
    """The events without the numbers of their lines, if no time goes back."""
    last = -math.inf
    for number, event in events:
        if event.time < last:
            raise LiquidError(
                f"{name}, line {number}: the time goes back, from {last:.15g} to {event.time:.15g} s; sort"
                " the events, or split the file where the times begin again"
            )
        last = event.time
        yield event


def _json_documents(lines: Iterable[str], name: str) -> Iterator[Iterator[TextEvent]]:
    """Consecutive lines that are one event each, and lines that are a list of events."""

    def document(numbered: tuple[int, object]) -> int | None:
        number, record = numbered
        return number if isinstance(record, list) else None

    records = (
        (number, record.get("events", record) if isinstance(record, dict) else record)
        for number, record in json_lines(lines, name)
    )
    for _, run in itertools.groupby(records, document):
        yield _in_order(
            (
                (number, _event(one, f"{name}, line {number}"))
                for number, record in run
                for one in (record if isinstance(record, list) else [record])
            ),
            name,
        )


def _event(record: object, where: str) -> TextEvent:
    if not isinstance(record, dict) or not isinstance(record.get("text"), str) or "time" not in record:
        raise LiquidError(f'{where}: an event must be a JSON object with a "time" and a string "text"')
    encoded(record["text"], f'{where}: "text"')
    try:
        return TextEvent(seconds(record["time"]), record["text"])
    except (ValueError, OverflowError) as error:
        raise LiquidError(
            f'{where}: "time" must be seconds or a date and time (ISO 8601), not {record["time"]!r}'
        ) from error


def _subtitles(lines: Iterable[str], name: str) -> Iterator[tuple[int, TextEvent]]:
    """Subtitles with the numbers of their lines; numbers, notes, styles and markup are left out."""
    time, begin, shown = None, 0, []
    for number, line in enumerate(itertools.chain(lines, [""]), start=1):
        line = line.rstrip("\r\n")
        found = CUE.match(line)
        if found or not line.strip():
            if time is not None and shown:
                yield begin, TextEvent(time, " ".join(shown))
            time, begin, shown = seconds(found[1].strip()) if found else None, number, []
        elif time is not None and (text := TAG.sub("", line).strip()):
            shown.append(text)


def _stamped(lines: Iterable[str], name: str) -> Iterator[tuple[int, TextEvent]]:
    """Lines that begin with a time of the first line's kind, each with the lines without a time after it."""
    kind, time, begin, text = None, 0.0, 0, []
    for number, line in enumerate(lines, start=1):
        line = line.rstrip("\r\n")
        found = find_stamp(line, kind)
        if found is not None:
            if kind is not None:
                yield begin, TextEvent(time, "\n".join(text).strip("\n"))
            (kind, time, end), begin = found, number
            text = [rest] if (rest := line[end:]) else []
            continue
        if kind is None and line.strip():
            raise LiquidError(
                f"{name}, line {number}: no time at its beginning; with timestamps a text must begin with"
                " one, such as 2026-01-31T12:00:00, [00:12:31] or 1700000000.5"
            )
        text.append(line)
    if kind is not None:
        yield begin, TextEvent(time, "\n".join(text).strip("\n"))
