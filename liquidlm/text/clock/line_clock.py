"""The clock of a file: the one kind of time that its lines have, settled on its first lines."""

import re
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC
from functools import cached_property
from typing import Any

from ...errors import LiquidError
from .calendar import Calendar
from .candidates import UNITS, candidates, compiled, decimals
from .choice import choose
from .formats import format_kind, is_expression, time_group
from .instants import (
    LARGEST_TIME,
    instant,
    local_second,
    month_and_day,
    second_of_day,
    since_1970,
    since_beginning,
    zone_in,
)
from .kinds import ORDERS, Kind, kinds
from .options import ClockOptions
from .places import BEGIN, INDENTED, LONGEST, REACH, Stamp, is_plain, place_of, taken, without_ansi
from .zone_check import check_zones, zones_stand_apart
from .zones import given_zone

__all__ = ["LineClock", "Stamp"]

HOW = "begin the lines with a time such as 2026-01-31T12:00:00, [00:12:31] or 1700000000.5, or say with"
HOW += " --time-format how their times are written"
LEAD = r"(?P<lead>\s*(?:<\d{1,3}>)?(?:[\[(\"'{<]\s*)?[*.]?)"
"""What may stand before a time that begins a line."""
REMEMBERED = 4096
"""Texts whose second is remembered."""


def _before(places: Sequence[str]) -> str:
    """A quick test of the sign before a time at these places."""
    signs = "".join(re.escape(place[6:]) for place in places if len(place) == len("after x"))
    signs += r"\s*." if any(place.startswith("word") for place in places) else ""
    signs += r"=:\"'\[(\s" if any(place.startswith("key") for place in places) else ""
    return f"(?<=[{signs}])" if signs and not {BEGIN, INDENTED, "after a letter"} & set(places) else ""


class NoTimesError(LiquidError):
    """No line of a text has a time."""


class LineClock:
    """Finds the time of each line of a file.

    Attributes:
        name: the kind of time in words.

    Example:
        >>> clock = LineClock.settle(["[00:01:30] The door opens."], ClockOptions(), "door.log")
        >>> clock.find("[00:01:31] It is dark.")
        Stamp(time=91.0, begin=0, end=11)
    """

    def __init__(self, kind: Kind, places: Sequence[str], options: ClockOptions, example: str = ""):
        """A clock of a kind.

        Args:
            kind: of the times.
            places: where they stand in the lines (see `clock.places.place_of`).
            options: what the user says about the times.
            example: a time as it is written.
        """
        self.kind, self.places, self.options, self.example = kind, tuple(places), options, example
        self.calendar = Calendar(options.year)
        self._zone = None if options.time_zone is None else given_zone(options.time_zone)
        self._seconds: dict[str, tuple[int, int]] = {}
        self._time: float | None = None
        self._begins, self._indented = set(places) <= {BEGIN, INDENTED}, INDENTED in places
        self._find = compiled((LEAD if self._begins else _before(self.places)) + kind.pattern)

    @classmethod
    def settle(cls, lines: Sequence[str], options: ClockOptions, name: str) -> "LineClock":
        """The clock of a file: of the kind of time that most of its first lines have, in order.

        Args:
            lines: the first lines of the file.
            options: what the user says about the times.
            name: stands for the file in the message of an error.

        Raises:
            NoTimesError: no line has a time.
            LiquidError: its kind is not clear.
        """
        shown = lines
        if options.time_format is not None and is_expression(options.time_format):
            found = map(time_group(options.time_format).search, lines)
            lines = [match["time"] for match in found if match is not None and match["time"]]
        try:
            return cls._settle(lines, options)
        except LiquidError as error:
            raise LiquidError(f"{name}: {error}") from error
        except LookupError as error:
            first = next((number for number, line in enumerate(shown, start=1) if line.strip()), 1)
            raise NoTimesError(f"{name}, line {first}: {error.args[0]}") from error

    @classmethod
    def _settle(cls, lines: Sequence[str], options: ClockOptions) -> "LineClock":
        own = options.time_format
        looked = [format_kind(own)] if own and not is_expression(own) else kinds().values()
        lines = [line if is_plain(line) else without_ansi(line)[0] for line in lines]
        chosen = choose(candidates(lines, looked), lines)
        if chosen is None:
            raise LookupError(f"no time of the form {own}" if own else f"no time in it; {HOW}")
        one = chosen[0].seen[0]
        example = lines[one.line][one.begin : one.end]
        kind, places = chosen[0].kind, [each.place for each in chosen]
        zone = None if options.time_zone is None else given_zone(options.time_zone)
        if not kind.given and kind.zoned and not zones_stand_apart(lines, kind, places, zone):
            kind = kind.without_zones_apart()
        if zone is None and kind.span not in ("epoch", "start"):
            check_zones(lines, kind, places)
        return cls(kind, places, options, example.strip())

    @classmethod
    def restore(cls, state: dict[str, Any]) -> "LineClock":
        """The clock with this state (see `state`)."""
        options = ClockOptions(**state["options"])
        own = options.time_format
        kind = format_kind(own) if own and not is_expression(own) else kinds()[state["kind"]]
        kind = kind if state.get("zones_apart", True) else kind.without_zones_apart()
        clock = cls(kind, state["places"], options, state["example"])
        clock.calendar, clock._time = Calendar(**state["calendar"]), state["time"]
        return clock

    @property
    def begins_lines(self) -> bool:
        """Whether dates with a time of day begin the lines."""
        return self.places[0] == BEGIN and self.kind.span in ("date", "year") and not self.kind.weak

    def state(self) -> dict[str, Any]:
        """What `restore` needs, for a file of JSON.

        Example:
            >>> clock = LineClock.settle(["Dec 31 23:59:59 host a"], ClockOptions(), "a.log")
            >>> before = clock.find("Dec 31 23:59:59 host a")
            >>> LineClock.restore(clock.state()).find("Jan  1 00:00:01 host b").time - before.time
            2.0
        """
        return {
            "kind": self.kind.key,
            "zones_apart": self.kind.zones_apart,
            "places": list(self.places),
            "options": asdict(self.options),
            "example": self.example,
            "calendar": asdict(self.calendar),
            "time": self._time,
        }

    @cached_property
    def name(self) -> str:
        """The kind of time in words, with an example."""
        found = compiled(self.kind.pattern).search(self.example)
        zoned = found is not None and any(found.groupdict().get(name) for name in ("z", "z2"))
        zone = f"zone {self.options.time_zone}" if self.options.time_zone else "no zone: UTC"
        year = f"first year {self.options.year}" if self.options.year else "no year"
        words = {
            "date": [] if zoned else [zone],
            "year": [year] + ([] if zoned else [zone]),
            "day": ["no date"],
            "epoch": ["since 1970"],
            "start": ["since the beginning"],
        }[self.kind.span]
        order = [ORDERS[self.kind.order]] if self.kind.order else []
        return f"times like {self.example}" + (f" ({', '.join(order + words)})" if order or words else "")

    def find(self, line: str) -> Stamp | None:
        """The time of a line, or None.

        Args:
            line: its text.

        Raises:
            LiquidError: its zone is not known, or its date shows that day and month are in another order.
        """
        if not is_plain(line):
            return self._find_coloured(line)
        if self._group is not None:
            return self._find_in_group(line)
        return self._find_plain(line)

    @cached_property
    def _group(self) -> re.Pattern[str] | None:
        own = self.options.time_format
        return time_group(own) if own and is_expression(own) else None

    def _find_coloured(self, line: str) -> Stamp | None:
        plain, kept = without_ansi(line)
        found = self._find_plain(plain) if self._group is None else self._find_in_group(plain)
        if found is None:
            return None
        begin = 0 if found.begin == 0 else kept[found.begin]
        return Stamp(found.time, begin, kept[found.end])

    def _find_in_group(self, line: str) -> Stamp | None:
        assert self._group is not None
        outer = self._group.search(line)
        if outer is None or not outer["time"] or (inner := self._find_plain(outer["time"])) is None:
            return None
        return Stamp(inner.time, *taken(line, *outer.span("time")))

    def _find_plain(self, line: str) -> Stamp | None:
        if self._begins:
            found = self._find.match(line, 0, REACH + LONGEST)
            if found is None or not (self._indented or line[:1] not in " \t" or self._is_padded(found)):
                return None
            if (time := self._time_of(found)) is None:
                return None
            return Stamp(time, *taken(line, found.end("lead"), found.end()))
        for found in self._find.finditer(line, 0, REACH + LONGEST):
            if found.start() >= REACH:
                break
            if place_of(line, found.start()) in self.places and (time := self._time_of(found)) is not None:
                return Stamp(time, *taken(line, *found.span()))
        return None

    def _is_padded(self, found: re.Match[str]) -> bool:
        """Whether a line begins with a space in place of a digit, such as that of an hour."""
        return found.end("lead") <= 2 and found.end() - found.end("lead") < len(self.example)

    def seconds(self, value: object) -> float:
        """The time of a field's value.

        Args:
            value: text of this kind, or a number of seconds.

        Raises:
            ValueError: it is not a time.
        """
        if isinstance(value, int | float) and not isinstance(value, bool):
            time = float(value)
        else:
            found = self.find(value.strip()) if isinstance(value, str) else None
            if found is None or (self._group is None and found.without(str(value).strip()).strip()):
                raise ValueError(f"{value!r} is not a time")
            time = found.time
        if not abs(time) <= LARGEST_TIME:
            raise ValueError(f"{value!r} is not finite, or too large for a time")
        return time

    def _time_of(self, found: re.Match[str]) -> float | None:
        """The time of a match; None if it is not a time."""
        try:
            match self.kind.span:
                case "date":
                    time = self._dated(found)
                case "epoch":
                    time = since_1970(found.groupdict())
                case "start":
                    time = self._since_beginning(found)
                case _:
                    time = self._carried(found)
        except LiquidError:
            raise
        except (ValueError, OverflowError) as error:
            if self.kind.family and self.kind.order:
                raise LiquidError(
                    f"{found[0].strip()} is not a time where the times are read {ORDERS[self.kind.order]}, as"
                    " in the first lines: say with --time-format how they are written"
                ) from error
            return None
        self._time = time
        return time if abs(time) <= LARGEST_TIME else None

    def _since_beginning(self, found: re.Match[str]) -> float:
        parts = found.groupdict()
        if number := parts.get("n"):
            return float(number) * UNITS[parts.get("u")]
        return since_beginning(parts["c"] or "")

    def _dated(self, found: re.Match[str]) -> float:
        """The time of a date. The second is remembered, since many lines have the same."""
        begin, end = found.span("f") if "f" in found.re.groupindex else (-1, -1)
        if begin < 0:
            text, fraction = found[0], 0.0
        else:
            text = found.string[found.start() : begin] + found.string[end : found.end()]
            fraction = float("0." + found.string[begin:end])
        if (both := self._seconds.get(text)) is None:
            parts = found.groupdict()
            both = instant(local_second(parts), zone_in(parts, self._zone))
            if len(self._seconds) >= REMEMBERED:
                self._seconds.clear()
            self._seconds[text] = both
        colon = found.groupdict().get("f2") if "f2" in found.re.groupindex else None
        return self._first_or_again(both, fraction + (int(colon[1:]) / 1000 if colon else 0.0))

    def _first_or_again(self, both: tuple[int, int], fraction: float) -> float:
        """The time in an hour that is there twice, where clocks are set back: the one that goes on."""
        first, again = both
        if first != again and self._time is not None and first + fraction < self._time:
            return again + fraction
        return first + fraction

    def _carried(self, found: re.Match[str]) -> float:
        """The time of a date without a year, or of a time of day."""
        parts = found.groupdict()
        second = second_of_day(parts, 999 if self.kind.span == "day" else 24) + decimals(parts)
        if self.kind.span == "day":
            return self.calendar.of_day(second)
        local = self.calendar.dated(*month_and_day(parts), second)
        zone = zone_in(parts, self._zone)
        if zone is UTC:
            return local
        whole = int(local // 1)
        return self._first_or_again(instant(whole, zone), local - whole)
