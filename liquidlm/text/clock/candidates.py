"""The times that the lines of a file may have: of every kind, at every place."""

import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from statistics import median
from typing import NamedTuple

from ...errors import LiquidError
from .calendar import HALF_DAY, HALF_YEAR, LATE, LENGTHS, STARTS
from .instants import (
    DAY,
    instant,
    local_second,
    month_and_day,
    second_of_day,
    since_1970,
    since_beginning,
    zone_in,
)
from .kinds import Kind, sketch
from .places import BEGIN, INDENTED, LONGEST, REACH, is_time_key, place_of

UNITS = {None: 1.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
SAMPLE = 60
"""Lines in which kinds are looked for first."""


class Seen(NamedTuple):
    """A time in a line.

    Attributes:
        line: the number of the line.
        value: in seconds; only differences count.
        local: likewise, without its zone, which may be a word of the text.
        begin, end: its place.
    """

    line: int
    value: float
    local: float
    begin: int
    end: int


@dataclass
class Candidate:
    """The times of one kind at one place.

    Attributes:
        kind, place: of the times.
        seen: the times, one in a line.
    """

    kind: Kind
    place: str
    seen: list[Seen] = field(default_factory=list)

    @property
    def score(self) -> int:
        """The number of lines, without those whose time goes back."""
        return len(self.seen) - self.backs

    @property
    def backs(self) -> int:
        """How often the time goes back by more than a line may be late, or a year or day may be over."""
        turn = {"year": HALF_YEAR, "day": HALF_DAY}.get(self.kind.span, float("inf"))
        both = ([one.value for one in self.seen], [one.local for one in self.seen])
        return min(sum(LATE < a - b < turn for a, b in itertools.pairwise(values)) for values in both)

    @property
    def first(self) -> float:
        """The usual position in a line."""
        return float(median(one.begin for one in self.seen))

    @property
    def length(self) -> float:
        """The usual number of characters."""
        return float(median(one.end - one.begin for one in self.seen))

    @property
    def constant(self) -> bool:
        """Whether several lines all have the same time."""
        return len(self.seen) > 2 and len({one.value for one in self.seen}) == 1


@cache
def compiled(pattern: str) -> re.Pattern[str]:
    """The pattern, compiled once."""
    return re.compile(pattern)


def rough_value(kind: Kind, found: re.Match[str]) -> float:
    """The time of a match in seconds; a year that is not written is any year.

    Raises:
        ValueError: it is not a time.
    """
    parts = found.groupdict()
    if kind.span == "epoch":
        return since_1970(parts)
    if kind.span == "start":
        return since_beginning(parts["c"]) if parts.get("c") else float(parts["n"]) * UNITS[parts.get("u")]
    if kind.span == "day":
        return second_of_day(parts, 999) + decimals(parts)
    if kind.span == "year":
        month, day = month_and_day(parts)
        if not (1 <= month <= 12 and 1 <= day <= LENGTHS[month - 1]):
            raise ValueError(f"{month}-{day} is not a date")
        return (STARTS[month - 1] + day) * DAY + second_of_day(parts) + decimals(parts)
    try:
        zone = zone_in(parts, None)
    except LiquidError:  # said once the kind is settled
        return local_second(parts) + decimals(parts)
    return instant(local_second(parts), zone).time + decimals(parts)


def _local(kind: Kind, found: re.Match[str]) -> float:
    """The time of a match as `rough_value` gives it, without its zone."""
    parts = found.groupdict()
    return local_second(parts) + decimals(parts) if kind.span == "date" else rough_value(kind, found)


def decimals(parts: dict[str, str | None]) -> float:
    """The decimals of a second, or its milliseconds after a colon."""
    if colon := parts.get("f2"):
        return int(colon[1:]) / 1000
    return float(f"0.{found}") if (found := parts.get("f")) else 0.0


def candidates(lines: Sequence[str], kinds: Iterable[Kind]) -> list[Candidate]:
    """The times of every kind at every place in the first lines of a file.

    Args:
        lines: of the file, without a terminal's commands.
        kinds: that are looked for.
    """
    step = max(1, len(lines) // SAMPLE)
    sample = [*lines[:SAMPLE], *lines[SAMPLE::step]]
    found: dict[tuple[str, str], Candidate] = {}
    text = "\n".join(line[: REACH + LONGEST] for line in sample)
    for kind in kinds:
        if not kind.given and not compiled(sketch(kind)).search(text):
            continue
        pattern = compiled(kind.pattern)
        if not any(pattern.search(line, 0, REACH + LONGEST) for line in sample):
            continue
        for number, line in enumerate(lines):
            for place, one in _times(line, number, kind, pattern).items():
                found.setdefault((kind.key, place), Candidate(kind, place)).seen.append(one)
    return list(found.values())


def _times(line: str, number: int, kind: Kind, pattern: re.Pattern[str]) -> dict[str, Seen]:
    """The first time at each place of a line."""
    seen: dict[str, Seen] = {}
    for found in pattern.finditer(line, 0, REACH + LONGEST):
        begin, end = found.span()
        place = place_of(line, begin)
        if begin >= REACH:
            break
        if place in seen or not (
            kind.anywhere or place in (BEGIN, INDENTED) or (kind.span == "date" and _has_key(place))
        ):
            continue
        try:
            seen[place] = Seen(number, rough_value(kind, found), _local(kind, found), begin, end)
        except (ValueError, OverflowError):
            continue
    return seen


def _has_key(place: str) -> bool:
    return place.startswith("key ") and is_time_key(place[4:])
