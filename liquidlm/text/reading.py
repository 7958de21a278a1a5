"""How a file is read: what a user says about its bytes, its fields and its times."""

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from ..errors import LiquidError
from .clock.options import ClockOptions

LATE_POLICIES = ("clamp", "error", "sort")
"""What to do with a time that is before the time of the line before (see `late.py`)."""
ERROR_POLICIES = ("strict", "replace")
"""What to do with a byte that is wrong in the encoding: an error, or U+FFFD in its place."""

OF_NO_USER = ("clock", "fields_of_model")
"""Fields of `ReadingOptions` that are not options of a command."""


@dataclass(frozen=True)
class ReadingOptions:
    """How text and times of a file are read. What is None is found in the file itself.

    Attributes:
        clock: how its times are written.
        time_field: the field of a JSON or CSV record that has its time; a dotted path such as ``t.$date``,
            or the number of a column of CSV, from 0.
        text_field: the field that has its text, likewise.
        late: what to do with a time that goes back, one of LATE_POLICIES.
        encoding: of the bytes, a name that Python knows; None: UTF-8, or what a byte order mark says.
        errors: what to do with a wrong byte, one of ERROR_POLICIES.
        fields_of_model: whether the fields are those of the text that a model was trained on. Then a text
            without fields is read without them.

    Raises:
        LiquidError: a name is unknown.

    Example:
        >>> ReadingOptions(late="sort").late
        'sort'
    """

    clock: ClockOptions = field(default_factory=ClockOptions)
    time_field: str | None = None
    text_field: str | None = None
    late: str = "clamp"
    encoding: str | None = None
    errors: str = "strict"
    fields_of_model: bool = field(default=False, compare=False)

    def __post_init__(self):
        for name, policies in (("late", LATE_POLICIES), ("errors", ERROR_POLICIES)):
            if (value := getattr(self, name)) not in policies:
                known = f"{', '.join(policies[:-1])} or {policies[-1]}"
                raise LiquidError(f"--{name} must be {known}, not {value}")
        if self.encoding is not None:
            try:
                b"-".decode(self.encoding, "replace")
            except (LookupError, ValueError) as error:
                raise LiquidError(
                    f"--encoding {self.encoding} is not known: give a name such as utf-8, latin-1 or cp1252"
                ) from error

    @classmethod
    def of(cls, **given: Any) -> "ReadingOptions":
        """The options from the fields of both classes, as the command line has them.

        Example:
            >>> ReadingOptions.of(time_zone="+01:00", late="error").clock.time_zone
            '+01:00'
        """
        clock = {each.name: given.pop(each.name) for each in fields(ClockOptions) if each.name in given}
        return cls(clock=ClockOptions(**clock), **given)

    def given(self) -> dict[str, Any]:
        """The fields that are not the default, for `of`; settings files and state files keep them."""
        mine = {**asdict(self.clock), **asdict(self)}
        usual = {**asdict(ClockOptions()), **asdict(ReadingOptions())}
        return {
            name: value for name, value in mine.items() if name not in OF_NO_USER and value != usual[name]
        }

    def refuse_fields(self, name: str, what: str) -> None:
        """Check that no field is named for a text that has none.

        Args:
            name: stands for the text in the message.
            what: what the text is.

        Raises:
            LiquidError: a field is named.
        """
        named = [
            option
            for option, value in (("--time-field", self.time_field), ("--text-field", self.text_field))
            if value is not None
        ]
        if named and not self.fields_of_model:
            raise LiquidError(
                f"{name}: {named[0]} names a field of JSON or CSV, and this is {what}: leave it out (the name"
                " of a file of CSV ends in .csv; a stream of CSV begins with the names of its columns)"
            )


def reading_names() -> list[str]:
    """The names of all options: the fields of both classes.

    Example:
        >>> reading_names()[:3], reading_names()[-1]
        (['time_format', 'time_zone', 'year'], 'errors')
    """
    every = (*fields(ClockOptions), *fields(ReadingOptions))
    return [each.name for each in every if each.name not in OF_NO_USER]
