"""Wrong values in configurations, which huggingface_hub's `strict` checks ▶ one LiquidError."""

import functools
import reprlib
from dataclasses import Field
from typing import TypeVar

from huggingface_hub.errors import StrictDataclassError, StrictDataclassFieldValidationError

from ..errors import LiquidError, first_line

T = TypeVar("T")


def plain_fields(cls: type[T]) -> type[T]:
    """A class decorator: errors of a `strict` dataclass become a LiquidError of one line."""
    checked = cls.__init__
    known: dict[str, Field] = cls.__dataclass_fields__  # pyright: ignore[reportAttributeAccessIssue]

    @functools.wraps(checked)
    def init(self: T, *args: object, **kwargs: object) -> None:
        try:
            checked(self, *args, **kwargs)
        except StrictDataclassFieldValidationError as error:
            name = str(error).split("'")[1]  # the name is nowhere else
            kind = known[name].type
            must = kind.__name__ if isinstance(kind, type) else kind
            raise LiquidError(f"{name} must be {must}, not {reprlib.repr(kwargs.get(name))}") from error
        except StrictDataclassError as error:
            raise LiquidError(first_line(error)) from error

    cls.__init__ = init
    return cls
