"""The values of fields as they are written ▶ times in seconds, and texts."""

from collections.abc import Sequence
from typing import Any

from ..errors import LiquidError
from .clock_options import ClockOptions
from .line_clock import LineClock
from .number_times import UNITS, as_number, number_time, unit_of


class FieldClock:
    """The clock of a field: numbers have one unit, decided by all of them; texts have one kind of time.

    Attributes:
        name: the kind of time in words.

    Example:
        >>> clock = FieldClock([1769860800123, 1769860801123], ClockOptions(), "time", "pino.jsonl")
        >>> clock.seconds(1769860801123), clock.name
        (1769860801.123, 'milliseconds since 1970')
    """

    def __init__(self, values: Sequence[Any], options: ClockOptions, field: str, name: str):
        """Settle unit and kind.

        Args:
            values: of the field, in some records.
            options: what the user says about the times.
            field: its name; it may say the unit.
            name: stands for the file in the message of an error.

        Raises:
            LiquidError: the values are no times, or their kind is not clear.
            ValueError: a number is too large for any unit.
        """
        plain = [plain_time(value) for value in values]
        numbers = [] if options.time_format else [n for n in map(as_number, plain) if n is not None]
        texts = [str(value) for value in plain if options.time_format or as_number(value) is None]
        self._forced = options.time_format is not None
        self._unit = unit_of(numbers, field) if numbers else None
        self._clock = _settled(texts, options, name, needed=2 * len(texts) > len(values))
        if self._clock is not None:
            self.name = self._clock.name
        else:
            since = " since 1970" if numbers and number_time(numbers[0], self._unit or 0) >= 1e8 else ""
            self.name = UNITS[self._unit or 0][0] + since

    def seconds(self, value: Any) -> float:
        """The time of a value.

        Raises:
            ValueError: it is no time, or of a kind that no value had when the clock was settled.
        """
        value = plain_time(value)
        number = None if self._forced else as_number(value)
        if number is not None and self._unit is not None:
            return number_time(number, self._unit)
        if self._clock is None or isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError(f"{value!r} is not a time")
        return self._clock.seconds(str(value))


def _settled(texts: Sequence[str], options: ClockOptions, name: str, needed: bool) -> LineClock | None:
    """The clock of texts; None if it is not needed and they are no times."""
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
    """
    while isinstance(value, dict) and (found := value.get("$date", value.get("$numberLong"))) is not None:
        value = found
    if isinstance(value, dict) and "seconds" in value:
        whole, rest = as_number(value["seconds"]), as_number(value.get("nanos", 0))
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
    """Check that most values are times of this clock.

    Raises:
        LiquidError: most are not.
    """
    wrong = 0
    for value in values:
        try:
            clock.seconds(value)
        except ValueError:
            wrong += 1
    if 2 * wrong > len(values):
        raise LiquidError(f"{wrong} of {len(values)} values are no times")
