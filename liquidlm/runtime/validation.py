"""Values of a wrong type or size ▶ one LiquidError that says what they must be.

Pydantic finds them in settings, huggingface_hub's `strict` in configurations.
"""

import difflib
import functools
import reprlib
from collections.abc import Iterable, Sequence
from dataclasses import Field
from typing import TypeVar

from huggingface_hub.errors import StrictDataclassError, StrictDataclassFieldValidationError
from pydantic import ConfigDict, ValidationError

from ..errors import LiquidError, first_line

T = TypeVar("T")

STRICT = ConfigDict(strict=True, extra="forbid")
"""No text is a number, no bool either; a whole number is a fine float."""

TYPES = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "string_type": "text in quotes",
    "is_instance_of": "text in quotes",  # as file names are asked for
    "bool_type": "true or false",
    "list_type": "a list, in [ ]",
    "dict_type": "a table of names and values",
}
"""What a value of the wrong type must be, by pydantic's name for the mistake."""


def plain_errors(cls: type[T]) -> type[T]:
    """Of a dataclass that checks its values: what is wrong with them is a LiquidError of one line."""
    checked = cls.__init__
    known: dict[str, Field] = cls.__dataclass_fields__  # pyright: ignore[reportAttributeAccessIssue]

    @functools.wraps(checked)
    def init(self: T, *args: object, **kwargs: object) -> None:
        try:
            checked(self, *args, **kwargs)
        except ValidationError as error:
            raise LiquidError(explain(error, known)) from error
        except StrictDataclassFieldValidationError as error:
            name = str(error).split("'")[1]  # it stands nowhere else
            kind = known[name].type
            must = kind.__name__ if isinstance(kind, type) else kind
            raise LiquidError(f"{name} must be {must}, not {reprlib.repr(kwargs.get(name))}") from error
        except StrictDataclassError as error:
            raise LiquidError(first_line(error)) from error

    cls.__init__ = init
    return cls


def explain(error: ValidationError, known: Iterable[str], name: str = "") -> str:
    """The first mistake in one line; `known` are the names that there are, `name` is of the value checked."""
    first = error.errors(include_url=False)[0]
    context, kind = first.get("ctx", {}), first["type"]
    if kind == "value_error":  # of our own
        return str(context["error"])
    for part in first["loc"]:
        name += f"[{part}]" if isinstance(part, int) else f".{part}" if name else str(part)
    if kind == "unexpected_keyword_argument":
        return unknown(name, "setting", sorted(known))
    if kind == "missing":
        return f"{name} is missing"
    bounds = {"gt": "over", "ge": "at least", "lt": "below"}
    limits = [f"{word} {context[key]:.19g}" for key, word in bounds.items() if key in context]
    must = "finite" if limits == ["below inf"] else TYPES.get(kind) or " ".join(limits) or first["msg"]
    return f"{name} must be {must}, not {reprlib.repr(first['input'])}"


def unknown(name: str, what: str, known: Sequence[str]) -> str:
    """That there is nothing of this name, what there is, and what may have been meant."""
    close = difflib.get_close_matches(name, known, 3)
    meant = f" (did you mean {' or '.join(close)}?)" if close else ""
    return f"{name} is no {what}{meant}; there are {', '.join(known)}"
