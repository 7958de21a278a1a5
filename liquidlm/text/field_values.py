"""The values of fields as they are written ▶ times in seconds, and texts."""

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import LiquidError
from .clock.line_clock import LineClock
from .clock.options import ClockOptions
from .number_times import UNITS, are_dates, as_number, number_time, unit_of

SECONDS_AND_NANOS = (("seconds", "nanos"), ("epochSecond", "nanoOfSecond"))
"""Names of the two parts of a time, as Google's and Log4j's records have them."""
DATE_OF_NET = re.compile(r"\\?/Date\((-?\d+)(?:[+-]\d{4})?\)\\?/")
"""Milliseconds since 1970, as PowerShell writes them; an offset after them changes nothing."""


@dataclass(frozen=True)
class FieldClock:
    """The clock of a field: numbers have one unit, decided by all of them; texts have one kind of time.

    Attributes:
        name: the kind of time in words.
        unit: of numbers, its place in `number_times.UNITS`; None if no value is a number.
        texts: reads the values that are texts; None if none is.
        as_text: whether numbers are read as texts, since the user says how times are written.

    Example:
        >>> clock = FieldClock.settle([1769860800123, 1769860801123], ClockOptions(), "time", "pino.jsonl")
        >>> clock.seconds(1769860801123), clock.name
        (1769860801.123, 'milliseconds since 1970')
    """

    name: str
    unit: int | None
    texts: LineClock | None
    as_text: bool = False

    @classmethod
    def settle(cls, values: Sequence[Any], options: ClockOptions, field: str, name: str) -> "FieldClock":
        """Settle unit and kind.

        Args:
            values: of the field, in some records.
            options: what the user says about the times.
            field: its name; it may say the unit.
            name: stands for the file in the message of an error.

        Raises:
            LiquidError: the values are not times, or their kind is not clear.
            ValueError: a number is too large for any unit.
        """
        plain = [plain_time(value) for value in values]
        as_text = options.time_format is not None or are_dates(plain)
        numbers = [] if as_text else [found for value in plain if (found := as_number(value)) is not None]
        texts = [str(value) for value in plain if as_text or as_number(value) is None]
        unit = unit_of(numbers, field) if numbers else None
        clock = _settled(texts, options, name, needed=2 * len(texts) > len(values))
        since = " since 1970" if unit is not None and number_time(numbers[0], unit) >= 1e8 else ""
        kind = UNITS[unit or 0][0] + since if clock is None else clock.name
        return cls(kind, unit, clock, as_text)

    @property
    def is_dated(self) -> bool:
        """Whether the times are not small numbers, which may be any."""
        return self.texts is not None or self.name.endswith("since 1970")

    def state(self) -> dict[str, Any]:
        """What `restore` needs, for a file of JSON."""
        texts = None if self.texts is None else self.texts.state()
        return {"name": self.name, "unit": self.unit, "texts": texts, "as_text": self.as_text}

    @classmethod
    def restore(cls, state: dict[str, Any]) -> "FieldClock":
        """The clock with this state."""
        texts = None if state["texts"] is None else LineClock.restore(state["texts"])
        return cls(**{**state, "texts": texts})

    def seconds(self, value: Any) -> float:
        """The time of a value.

        Raises:
            ValueError: it is not a time, or of a kind that no value had when the clock was settled.
        """
        value = plain_time(value)
        number = None if self.as_text else as_number(value)
        if number is not None and self.unit is not None:
            return number_time(number, self.unit)
        if self.texts is None or isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError(f"{value!r} is not a time")
        return self.texts.seconds(str(value))


def _settled(texts: Sequence[str], options: ClockOptions, name: str, needed: bool) -> LineClock | None:
    """The clock of texts; None if it is not needed and they are not times."""
    try:
        return LineClock.settle(texts, options, name) if texts else None
    except LiquidError:
        if needed:
            raise
        return None


def plain_time(value: Any) -> Any:
    """A time in a usual object as a number or text; any other value as it is.

    >>> plain_time({"$date": {"$numberLong": "1769860800"}}), plain_time({"seconds": 3, "nanos": 250000000})
    ('1769860800', 3.25)
    >>> plain_time("/Date(1769860800123+0100)/")
    '1769860800123'
    """
    if isinstance(value, str) and (found := DATE_OF_NET.fullmatch(value)):
        return found[1]
    while isinstance(value, dict) and (found := value.get("$date", value.get("$numberLong"))) is not None:
        value = found
    for seconds, nanos in SECONDS_AND_NANOS:
        if isinstance(value, dict) and seconds in value:
            whole, rest = as_number(value[seconds]), as_number(value.get(nanos, 0))
            return value if whole is None or rest is None else whole + rest / 10**9
    return value


def plain_text(value: Any) -> str | None:
    """The text of a field; None if it has none.

    A text in OpenTelemetry's ``{"stringValue": …}`` is taken out, and bytes that journald writes as a list of
    numbers become text.

    >>> plain_text({"stringValue": "on"}), plain_text([72, 105, 195, 177]), plain_text(3)
    ('on', 'Hiñ', None)
    """
    if isinstance(value, dict) and isinstance(value.get("stringValue"), str):
        value = value["stringValue"]
    if isinstance(value, list) and value and all(isinstance(byte, int) and 0 <= byte < 256 for byte in value):
        value = bytes(value).decode("utf-8", "replace")
    return value if isinstance(value, str) else None


def check_clock(clock: FieldClock, values: Sequence[Any]) -> None:
    """Check that most values are times of this clock; the clock stays as it is.

    Raises:
        LiquidError: most are not.
    """
    wrong, clock = 0, copy.deepcopy(clock)  # a clock carries days and years from value to value
    for value in values:
        try:
            clock.seconds(value)
        except ValueError:
            wrong += 1
    if 2 * wrong > len(values):
        raise LiquidError(f"{wrong} of {len(values)} values are not times")
