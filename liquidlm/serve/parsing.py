"""The JSON of a request becomes its model, in a thread if it is large."""

import codecs
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import numpy as np
from fastapi import HTTPException, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from pydantic.json_schema import models_json_schema

from .bodies import SMALL
from .threads import in_thread

Asked = TypeVar("Asked", bound=BaseModel)
REFERENCE = "#/components/schemas/{model}"
QUOTED = 80
"""Characters of a client's own words that a message repeats."""


def parsed(kind: type[Asked], values: int) -> Callable[[Request], Awaitable[Asked]]:
    """A dependency of a route: the body as an object of this kind.

    Args:
        kind: the model of the body.
        values: the most numbers and other values in a body.
    """

    async def read(request: Request) -> Asked:
        sent = request.headers.get("content-type", "")
        # A page of another site can send other types without asking the browser.
        if sent.partition(";")[0].strip().lower() != "application/json":
            raise HTTPException(
                415,
                f"the content type is {quoted(sent) if sent else 'missing'}: send JSON, with the header"
                " Content-Type: application/json",
            )
        body = b"".join([part async for part in request.stream()]).removeprefix(codecs.BOM_UTF8)
        if len(body) <= SMALL:
            return _model(kind, body)
        return await in_thread(lambda _: _model(kind, _of_few_values(body, values)))

    return read


def quoted(words: str) -> str:
    """A client's own words for a message, shortened."""
    return repr(words if len(words) <= QUOTED else f"{words[:QUOTED]}…")


def _of_few_values(body: bytes, most: int) -> bytes:
    """The body, if it has few commas. In a text each is a token too, unless several stand in a row."""
    commas = np.frombuffer(body, np.uint8) == ord(",")
    if np.count_nonzero(commas[1:] & ~commas[:-1]) > most:
        raise HTTPException(413, f"the request has over {most:,} values: send fewer")
    return body


def _model(kind: type[Asked], body: bytes) -> Asked:
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise RequestValidationError(error.errors(include_url=False, include_input=False)) from None


def body_description(kind: type[BaseModel]) -> dict[str, Any]:
    """The body of a route in its OpenAPI description."""
    schema = {"$ref": REFERENCE.format(model=kind.__name__)}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def schemas(*kinds: type[BaseModel]) -> dict[str, Any]:
    """The schemas to which `body_description` refers, by name."""
    return models_json_schema([(kind, "validation") for kind in kinds], ref_template=REFERENCE)[1]["$defs"]


def what_is_wrong(error: RequestValidationError) -> tuple[str, str | None]:
    """The message for an error of a body, and the name of the field.

    A value that may have several forms has an error for each: the one that gets farthest is meant.
    """
    found = error.errors()
    farthest = max(_reach(one["loc"]) for one in found)
    meant = [one for one in found if _reach(one["loc"]) == farthest]
    own = [one for one in meant if one["type"] == "value_error"] or meant
    path = _path(own[0]["loc"])
    says = dict.fromkeys(_said(one["msg"]) for one in own if _path(one["loc"]) == path)
    name = "".join(f"[{part}]" if isinstance(part, int) else f".{part[:QUOTED]}" for part in path).lstrip(".")
    field = next((part[:QUOTED] for part in path if isinstance(part, str)), None)
    return f"{name or 'the body'}: {' or '.join(says)}", field


def _reach(location: tuple[int | str, ...]) -> tuple[int, list[int]]:
    """How far a form of a value was read: how deep, and up to which element of lists."""
    path = _path(location)
    return len(path), [part for part in path if isinstance(part, int)]


def _said(message: str) -> str:
    if "hex escape" in message:
        return f"{message} (half of a surrogate pair is not a character)"
    return message.removeprefix("Value error, ")


def _path(location: tuple[int | str, ...]) -> list[int | str]:
    """The place of an error in the body, without pydantic's names of the forms that a value may have."""
    forms = {"str", "int", "float", "bool"}
    return [part for part in location if isinstance(part, int) or (part.isidentifier() and part not in forms)]
