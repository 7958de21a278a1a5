"""Files of events with times ▶ documents whose text knows when it happened.

The rule: an event's text is all at the event's time, and so is the line break before it. A document is its
events, one line break between two; its `<s>` is at the first event's time, its `</s>` at the last one's. So
within an event the gap is 0, and a model that has read a line break with its gap knows how long nothing was.
"""

import itertools
import json
import math
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import NamedTuple

from liquidlm.errors import LiquidError


class Event(NamedTuple):
    """Something said, and when, in seconds."""

    time: float
    text: str


class Stamp(NamedTuple):
    """A time at the beginning of a line: of which of STAMPS, in seconds, and where the text begins."""

    kind: int
    time: float
    end: int


DATE = r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?: ?(?:Z|UTC|[+-]\d\d:?\d\d))?"
SYSLOG = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [ \d]\d \d\d:\d\d:\d\d"
CLOCK = r"-?(?:\d+:)?(?:\d+:)?\d+:\d\d(?:[.,]\d+)?"
NUMBER = r"-?\d+(?:\.\d+)?"
EPOCH_NUMBER = r"\d{9,}(?:\.\d+)?"
"""A plain number is a time only if it can be seconds since 1970; in brackets any is."""
PLAIN, BRACKETED = (DATE, SYSLOG, CLOCK, EPOCH_NUMBER), (DATE, SYSLOG, CLOCK, NUMBER)
STAMPS = [
    re.compile(rf"{before}({time}){after}(?=[:,;]?(?:\s|$))[:,;]?\s?")
    for before, after, times in (("", "", PLAIN), (r"\[\s*", r"\]", BRACKETED), (r"\(", r"\)", BRACKETED))
    for time in times
]
"""Each kind of time at the beginning of a line."""
CUE = re.compile(r"\s*((?:\d+:)?\d+:\d\d[.,]\d+)\s*-->")
TAG = re.compile(r"</?[a-zA-Z][^>]*>|<[\d:.]+>|\{\\[^}]*\}")
FARTHEST = 1e16
"""A larger number is no time: float64 would not tell its seconds apart."""
EPOCH = 1e8
"""Seconds from which on a time is taken to be since 1970."""
FIRST_DATE, LAST_DATE = -62_135_596_800.0, 253_402_300_799.0
"""The years 1 to 9999, which is as far as dates go."""
UNITS = (1.0, 60.0, 3600.0, 86400.0)
"""Seconds in the fields of a clock, the last first: [[DD:]HH:]MM:SS."""


def seconds(time: object) -> float:
    """A time in seconds: a number, a date and time (ISO 8601, or as logs have it; UTC where no zone is
    named), or a clock, [[DD:]HH:]MM:SS.

    Raises:
        ValueError: it is none of these, not finite, or further than FARTHEST from 0.
    """
    if isinstance(time, int | float) and not isinstance(time, bool):
        found = float(time)
    elif not isinstance(time, str):
        raise ValueError(f"{time!r} is no time")
    elif re.fullmatch(CLOCK, time):
        sign, fields = (-1.0 if time.startswith("-") else 1.0), time.lstrip("-").replace(",", ".").split(":")
        found = sign * sum(float(field) * unit for field, unit in zip(reversed(fields), UNITS, strict=False))
    elif re.fullmatch(SYSLOG, time):  # which has no year: a leap year takes every date
        found = datetime.strptime(f"2000 {time}", "%Y %b %d %H:%M:%S").replace(tzinfo=UTC).timestamp()
    elif re.fullmatch(r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?", time):
        found = float(time)
    else:
        moment = datetime.fromisoformat(time.replace(",", ".").replace(" UTC", "Z").replace(" +", "+"))
        found = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if not abs(found) <= FARTHEST:
        raise ValueError(f"{time!r} is not finite, or too far away")
    return found


def find_stamp(line: str, kind: int | None = None) -> Stamp | None:
    """The time that a line begins with, of one kind or of any; None if it does not, or if it is no time."""
    for number in range(len(STAMPS)) if kind is None else (kind,):
        if found := STAMPS[number].match(line):
            try:
                return Stamp(number, seconds(found[1]), found.end())
            except ValueError:
                return None
    return None


def is_dated(time: float) -> bool:
    """Whether a text that begins at this time shows its times as dates."""
    return FIRST_DATE <= time <= LAST_DATE and abs(time) >= EPOCH


def stamp(time: float, dated: bool | None = None) -> str:
    """A time as lines show it: a clock since 0, or a date and time (UTC); by default from 10⁸ s on, up to the
    year 9999. A later one is shown in seconds where dates are asked for."""
    tenths = round(time * 10)
    if is_dated(time) if dated is None else dated:
        whole, rest = divmod(tenths, 10)
        try:
            moment = datetime.fromtimestamp(whole, UTC)
        except (OverflowError, ValueError, OSError):  # after the year 9999
            return f"[{time:.0f}]"
        return f"[{moment.year:04}{moment:-%m-%d %H:%M:%S}" + (f".{rest}]" if rest else "]")
    whole, rest = divmod(abs(tenths), 10)
    minutes, whole = divmod(whole, 60)
    sign = "-" if tenths < 0 else ""
    return f"[{sign}{minutes // 60:02}:{minutes % 60:02}:{whole:02}{f'.{rest}' if rest else ''}]"


def read_events(lines: Iterable[str], suffix: str, name: str) -> Iterator[Iterator[Event]]:
    """The documents of a file, each as its events, in order.

    - ``.jsonl``: each line ``{"time": …, "text": …}`` is an event, all together one document; a line that is
      a list of such objects, or ``{"events": [ … ]}``, is a document of its own.
    - ``.srt``, ``.vtt``: a cue is an event, at the time that it is shown.
    - anything else: a line that begins with a time, plain or in brackets, is an event (see `seconds`); the
      first line decides of which kind; a line that does not begin so goes on with the event before it.

    Each document must be taken to its end before the next.

    Raises:
        LiquidError: no time where one should be, one that cannot be read, or one before the last; the line is
            named.
    """
    if suffix == ".jsonl":
        yield from _json_documents(lines, name)
    else:
        yield _in_order((_cues if suffix in (".srt", ".vtt") else _stamped)(lines, name), name)


def _in_order(events: Iterable[tuple[int, Event]], name: str) -> Iterator[Event]:
    last = -math.inf
    for number, event in events:
        if event.time < last:
            raise LiquidError(
                f"{name}, line {number}: the time goes back, from {last:.15g} to {event.time:.15g} s; sort"
                " the events, or put what begins anew into a file of its own"
            )
        last = event.time
        yield event


def _json_documents(lines: Iterable[str], name: str) -> Iterator[Iterator[Event]]:
    """Runs of lines that are an event each, and lines that are a list of them."""

    def document(numbered: tuple[int, object]) -> int | None:
        number, record = numbered
        return number if isinstance(record, list) else None

    for _, run in itertools.groupby(_json_lines(lines, name), document):
        yield _in_order(
            (
                (number, _event(one, f"{name}, line {number}"))
                for number, record in run
                for one in (record if isinstance(record, list) else [record])
            ),
            name,
        )


def _json_lines(lines: Iterable[str], name: str) -> Iterator[tuple[int, object]]:
    """Number and content of each line that is not blank; ``{"events": …}`` as its list."""
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise LiquidError(f"{name}, line {number}: not JSON ({error})") from error
        yield number, record.get("events", record) if isinstance(record, dict) else record


def _event(record: object, where: str) -> Event:
    if not isinstance(record, dict) or not isinstance(record.get("text"), str) or "time" not in record:
        raise LiquidError(f'{where}: an event must be a JSON object with a "time" and a string "text"')
    try:
        record["text"].encode("utf-8")
        return Event(seconds(record["time"]), record["text"])
    except UnicodeEncodeError as error:
        raise LiquidError(f'{where}: "text" has half of a surrogate pair') from error
    except (ValueError, OverflowError) as error:
        raise LiquidError(
            f'{where}: "time" must be seconds or a date and time (ISO 8601), not {record["time"]!r}'
        ) from error


def _cues(lines: Iterable[str], name: str) -> Iterator[tuple[int, Event]]:
    """Cues of a subtitle file; what is not shown (numbers, notes, styles, markup) is left out."""
    time, begin, shown = None, 0, []
    number = 0
    for number, line in enumerate(lines, start=1):
        line = line.rstrip("\r\n")
        if found := CUE.match(line):
            if time is not None and shown:
                yield begin, Event(time, " ".join(shown))
            time, begin, shown = seconds(found[1].strip()), number, []
        elif not line.strip():
            if time is not None and shown:
                yield begin, Event(time, " ".join(shown))
            time, shown = None, []
        elif time is not None and (text := TAG.sub("", line).strip()):
            shown.append(text)
    if time is not None and shown:
        yield begin, Event(time, " ".join(shown))


def _stamped(lines: Iterable[str], name: str) -> Iterator[tuple[int, Event]]:
    """Lines that begin with a time of the first one's kind, each with those after it that do not."""
    kind, time, begin, said = None, 0.0, 0, []
    for number, line in enumerate(lines, start=1):
        line = line.rstrip("\r\n")
        found = find_stamp(line, kind)
        if found is not None:
            if kind is not None:
                yield begin, Event(time, "\n".join(said).strip("\n"))
            (kind, time, end), begin = found, number
            said = [rest] if (rest := line[end:]) else []
            continue
        if kind is None and line.strip():
            raise LiquidError(
                f"{name}, line {number}: no time at its beginning; with timestamps a text must begin with"
                " one, such as 2026-01-31T12:00:00, [00:12:31] or 1700000000.5"
            )
        said.append(line)
    if kind is not None:
        yield begin, Event(time, "\n".join(said).strip("\n"))
