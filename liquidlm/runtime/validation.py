"""Wrong values in settings, which pydantic checks ▶ one LiquidError that says what the value must be.

`field_checks.py` does the same for configurations, which huggingface_hub checks.
"""

import difflib
import functools
import reprlib
from collections.abc import Iterable, Sequence
from dataclasses import Field
from typing import TypeVar

from pydantic import ConfigDict, ValidationError

from ..errors import LiquidError

T = TypeVar("T")

STRICT = ConfigDict(strict=True, extra="forbid")
"""Text and booleans are not numbers; a whole number is a float too; unknown names are errors."""

TYPES = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "string_type": "text in quotes",
    "is_instance_of": "text in quotes",  # of file names
    "bool_type": "true or false",
    "list_type": "a list, in [ ]",
    "dict_type": "a table of names and values",
}
"""The type that a value must have, by pydantic's name of the error."""


def plain_errors(cls: type[T]) -> type[T]:
    """A class decorator: errors of a pydantic dataclass become a LiquidError of one line."""
    checked = cls.__init__
    known: dict[str, Field] = cls.__dataclass_fields__  # pyright: ignore[reportAttributeAccessIssue]

    @functools.wraps(checked)
    def init(self: T, *args: object, **kwargs: object) -> None:
        try:
            checked(self, *args, **kwargs)
        except ValidationError as error:
            raise LiquidError(explain(error, known)) from error

    cls.__init__ = init
    return cls


def explain(error: ValidationError, known: Iterable[str], name: str = "") -> str:
    """The first error in one line.

    Args:
        error: of pydantic.
        known: all valid names.
        name: the name of the value that was checked, if it is not a dataclass.
    """
    first = error.errors(include_url=False)[0]
    context, kind = first.get("ctx", {}), first["type"]
    if kind == "value_error":  # raised in this package
        return str(context["error"])
    for part in first["loc"]:
        name += f"[{part}]" if isinstance(part, int) else f".{part}" if name else str(part)
    if kind == "unexpected_keyword_argument":
        return unknown(name, "setting", sorted(known))
    if kind == "missing":
        return f"{name} is missing"
    bounds = {"gt": "greater than", "ge": "at least", "lt": "below"}
    limits = [f"{word} {context[key]:.19g}" for key, word in bounds.items() if key in context]
    must = "finite" if limits == ["below inf"] else TYPES.get(kind) or " ".join(limits) or first["msg"]
    return f"{name} must be {must}, not {reprlib.repr(first['input'])}"


def unknown(name: str, what: str, known: Sequence[str]) -> str:
    """The message for an unknown name, with similar names and all valid ones.

    >>> unknown("step", "setting", ["batch", "steps"])
    'step is not a setting (did you mean steps?); there are batch, steps'

    Args:
        name: the unknown name.
        what: what it should be the name of.
        known: all valid names.
    """
    close = difflib.get_close_matches(name, known, 3)
    meant = f" (did you mean {' or '.join(close)}?)" if close else ""
    return f"{name} is not a {what}{meant}; there are {', '.join(known)}"
