"""Which error of the code becomes which HTTP status and message."""

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.responses import Response

from ..errors import LiquidError
from .answers import refusal
from .engine import Busy
from .named_states import NoSuchState, NotKept, StateExists
from .parsing import what_is_wrong
from .writer import Failed


def add_error_handlers(app: FastAPI) -> None:
    """Answer every error of a request in OpenAI's form."""

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        message, field = what_is_wrong(error)
        return refusal(400, message, field)

    @app.exception_handler(StarletteHTTPException)
    async def http_error(_: Request, error: StarletteHTTPException) -> Response:
        return refusal(error.status_code, str(error.detail), headers=dict(error.headers or {}))

    @app.exception_handler(LiquidError)
    async def user_error(_: Request, error: LiquidError) -> Response:
        return refusal(400, str(error))

    @app.exception_handler(NoSuchState)
    async def no_such_state(_: Request, error: NoSuchState) -> Response:
        return refusal(404, str(error), "state")

    @app.exception_handler(StateExists)
    async def state_exists(_: Request, error: StateExists) -> Response:
        return refusal(409, str(error), "name")

    @app.exception_handler(NotKept)
    async def not_kept(_: Request, error: NotKept) -> Response:
        return refusal(500, f"the state is not kept: {error}")

    @app.exception_handler(Busy)
    async def busy(_: Request, error: Busy) -> Response:
        return refusal(error.status, str(error), headers={"Retry-After": "1"})

    @app.exception_handler(Failed)
    async def failed(_: Request, error: Failed) -> Response:
        return refusal(500, f"the model failed: {error}")

    @app.exception_handler(Exception)
    async def unexpected(_: Request, __: Exception) -> Response:
        return refusal(500, "the server failed: see its log")
