"""Records of JSON or CSV ▶ times and texts: the fields are settled on the first records of a file."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import LiquidError
from .field_names import (
    SURE_NAMES,
    TEXT_NAMES,
    TIME_NAMES,
    Path,
    Record,
    fields_of,
    find_path,
    plain_name,
    usual_paths,
    value_at,
)
from .field_values import FieldClock, check_clock, plain_text
from .reading import ReadingOptions
from .utf8 import encoded

EVENT = (
    'an event must be a JSON object with a "time" and a string "text", or with other usual names of fields'
)
ROW = "a row must have a time and a text"
DATES, CLOCKS, MONTHS = ("date", "fecha"), ("time", "hora"), ("month", "mes")
"""Names of fields that have a date or a time of day alone."""


@dataclass(frozen=True)
class RecordFields:
    """Where the records of a file have their times and texts.

    Attributes:
        time: the field with the time; several fields are joined with a space, as a date and a time of day.
        text: the field with the text, likewise.
        other_texts: usual fields of a text, for records without the first.
        named: whether the user named the text. Then it may be any value, not only text.
        clock: reads the times.
        rule: what a record must be, for the messages of errors.
    """

    time: tuple[Path, ...]
    text: tuple[Path, ...]
    other_texts: tuple[Path, ...]
    named: bool
    clock: FieldClock
    rule: str = EVENT

    @classmethod
    def settle(
        cls, records: Sequence[Record], options: ReadingOptions, name: str, first: int = 1, rule: str = EVENT
    ) -> "RecordFields":
        """The fields of a file.

        Example:
            >>> records = [{"ts": 1769860800123, "level": "info", "msg": "started"}]
            >>> fields = RecordFields.settle(records, ReadingOptions(), "app.jsonl")
            >>> fields.time_of(records[0]), fields.text_of(records[0])
            (1769860800.123, 'started')

        Args:
            records: the first records of the file.
            options: what the user says about it.
            name: stands for the file in the message of an error.
            first: the number of the first record's line.
            rule: what a record must be, for the messages of errors.

        Raises:
            LiquidError: no field has times, or none has texts.
        """
        where = f"{name}, line {first}"
        time, clock = _time_fields(records, options, name, where, rule)
        texts = _text_fields(records, options, where, rule, time)
        others = tuple(path for (path,) in texts[1:])
        return cls(time, texts[0], others, options.text_field is not None, clock, rule)

    def state(self) -> dict[str, Any]:
        """What `restore` needs, for a file of JSON."""
        return {
            "time": self.time,
            "text": self.text,
            "other_texts": self.other_texts,
            "named": self.named,
            "clock": self.clock.state(),
        }

    @classmethod
    def restore(cls, state: dict[str, Any]) -> "RecordFields":
        """The fields with this state."""
        time, text, others = (tuple(map(tuple, state[name])) for name in ("time", "text", "other_texts"))
        return cls(time, text, others, named=state["named"], clock=FieldClock.restore(state["clock"]))

    @property
    def name(self) -> str:
        """The fields and the kind of their times, in words."""
        return f"time in {_shown(self.time)} ({self.clock.name}), text in {_shown(self.text)}"

    def time_of(self, record: Record) -> float:
        """The time of a record in seconds.

        Raises:
            ValueError: it has none.
        """
        return self.clock.seconds(_joined_value(record, self.time))

    def text_of(self, record: Record) -> str | None:
        """The text of a record; None if it has none."""
        for paths in (self.text, *((path,) for path in self.other_texts)):
            values = [value for path in paths if (value := value_at(record, path)) is not None]
            is_plain = not self.named or paths == (("MESSAGE",),)  # journald's, which may be bytes
            texts = [plain_text(value) if is_plain else _any_text(value) for value in values]
            if texts and all(text is not None for text in texts):
                text = " ".join(text for text in texts if text is not None)
                return text.removesuffix("\n") if paths[0][-1] == "log" else text  # docker keeps line breaks
        return None

    def event(self, record: object, where: str) -> tuple[float, str]:
        """Time and text of a record.

        Args:
            record: a value of the file.
            where: its place, for the message of an error.

        Raises:
            LiquidError: it has no time or no text.
        """
        if not isinstance(record, dict):
            raise LiquidError(f"{where}: {self.rule}")
        if _joined_value(record, self.time) is None:
            raise LiquidError(
                f"{where}: {self.rule}; there is no {_shown(self.time)}, only {fields_of(record)}"
            )
        try:
            time = self.time_of(record)
        except (ValueError, OverflowError) as error:
            raise wrong_time(where, self.time, record) from error
        if (text := self.text_of(record)) is None:
            raise LiquidError(
                f"{where}: {self.rule}; there is no text in {_shown(self.text)}, only {fields_of(record)}"
            )
        encoded(text, f"{where}: {_shown(self.text)}")
        return time, text


def wrong_time(where: str, paths: Sequence[Path], record: Record, why: str = "") -> LiquidError:
    """The error for a value that is not a time; `why` is its clock's, which may name an option."""
    if "--time-" in why and "no time" not in why:
        return LiquidError(f"{where}: {_shown(paths)} is {_joined_value(record, paths)!r}: {why}")
    return LiquidError(
        f"{where}: {_shown(paths)} must be seconds or a date and time (ISO 8601), not"
        f" {_joined_value(record, paths)!r}{f' ({why})' if why else ''}; say how it is written with"
        " --time-format, or name another field with --time-field"
    )


def _time_fields(
    records: Sequence[Record], options: ReadingOptions, name: str, where: str, rule: str
) -> tuple[tuple[Path, ...], FieldClock]:
    """The first field that has times in most records, and its clock."""
    if options.time_field is not None:
        tried = [_named_paths(records, options.time_field, "--time-field", where)]
    else:
        tried = _usual_times(records)
    if not tried:
        shown = fields_of(records[0]) if records else "none"
        raise LiquidError(
            f"{where}: {rule}; none of its fields is known as a time: name its field with --time-field (there"
            f" are {shown})"
        )
    wrong: LiquidError | None = None
    relative: tuple[tuple[Path, ...], FieldClock] | None = None
    for paths in tried:
        values = [value for record in records if (value := _joined_value(record, paths)) is not None]
        try:
            clock = FieldClock.settle(values, options.clock, paths[-1][-1], f"{name}, {_shown(paths)}")
            check_clock(clock, values)
        except (ValueError, OverflowError) as error:
            having = next(record for record in records if _joined_value(record, paths) is not None)
            wrong = wrong or wrong_time(where, paths, having, str(error))
            if len(paths) > 1 and "--time-format" in str(error) and "no time" not in str(error):
                raise wrong from error  # a date that is not clear: the time of day alone is not the time
            continue
        if relative is None or (clock.is_dated and plain_name(paths[-1][-1]) in SURE_NAMES):
            if clock.is_dated:
                return paths, clock
            relative = paths, clock  # a number such as a duration: perhaps another field has dates
    if relative is not None:
        return relative
    assert wrong is not None
    raise wrong


def _usual_times(records: Sequence[Record]) -> list[tuple[Path, ...]]:
    """The fields that may have the time; those that at least half of the records have come first."""
    found = [(path,) for path in usual_paths(records, TIME_NAMES)]
    pairs = [
        (*month, date, clock)
        for clock in usual_paths(records, CLOCKS)
        for date in usual_paths(records, DATES)
        if clock[:-1] == date[:-1] and _is_date_alone(value_at(records[0], date))
        for month in ([path for path in usual_paths(records, MONTHS) if path[:-1] == date[:-1]][:1],)
    ]

    def is_rare(paths: tuple[Path, ...]) -> bool:
        return 2 * sum(_joined_value(record, paths) is not None for record in records) < len(records)

    return sorted(pairs + found, key=is_rare)


def _is_date_alone(value: Any) -> bool:
    return isinstance(value, str) and ":" not in value and len(value) <= 12


def _text_fields(
    records: Sequence[Record], options: ReadingOptions, where: str, rule: str, time: tuple[Path, ...]
) -> list[tuple[Path, ...]]:
    """The field with the text, and then other usual ones."""
    if options.text_field is not None:
        return [_named_paths(records, options.text_field, "--text-field", where)]
    found = [path for path in usual_paths(records, TEXT_NAMES) if path not in time]

    count = {
        path: sum(plain_text(value_at(record, path)) is not None for record in records) for path in found
    }
    having = sorted((path for path in found if count[path]), key=lambda path: 2 * count[path] < len(records))
    if not having:
        shown = fields_of(records[0])
        raise LiquidError(
            f"{where}: {rule}; none of its fields is known as a text: name its field with --text-field (there"
            f" are {shown})"
        )
    return [(path,) for path in having]


def _named_paths(records: Sequence[Record], field: str, option: str, where: str) -> tuple[Path, ...]:
    """The paths of a field that the user named; a comma joins several."""
    literal = any(field in record for record in records)
    names = [field] if literal else [each.strip() for each in field.split(",")]
    paths = []
    for name in names:
        having = [r for r in records if value_at(r, find_path(r, name)) is not None]
        if not having:
            shown = fields_of(records[0]) if records else "none"
            raise LiquidError(f"{where}: there is no {name} for {option}: there are {shown}")
        paths.append(find_path(having[0], name))
    return tuple(paths)


def _joined_value(record: Record, paths: Sequence[Path]) -> Any:
    """The value of a field, or the values of several as one text; None if one is missing."""
    values = [value_at(record, path) for path in paths]
    if len(values) == 1:
        return values[0]
    return None if any(value is None for value in values) else " ".join(map(str, values))


def _any_text(value: Any) -> str:
    """Any value as text: JSON, if it is neither a text nor a number."""
    found = None if isinstance(value, list) else plain_text(value)
    return json.dumps(value, ensure_ascii=False) if found is None else found


def _shown(paths: Sequence[Path]) -> str:
    return " and ".join('"' + ".".join(path) + '"' for path in paths)
