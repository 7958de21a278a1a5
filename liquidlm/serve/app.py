"""The HTTP API: OpenAI's completions and chat, streamed or whole, and what a liquid model has beyond them."""

import asyncio
import hmac
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import Response

from ..errors import LiquidError
from ..model import LiquidTextGenerationModel
from ..tokenizer import LEDTokenizerWrapper
from .answers import refusal
from .engine import Busy
from .limits import BodyLimit, Limits
from .page import page
from .schema import (
    ChatCompletion,
    ChatRequest,
    Completion,
    CompletionRequest,
    ErrorResponse,
    Health,
    ModelCard,
    ModelList,
    TextRequest,
    TimeConstants,
)
from .serving import Serving
from .shapes import ChatShape, CompletionShape
from .writer import Failed, Writer

ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorResponse, "description": what}
    for status, what in (
        (400, "a request that makes no sense"),
        (401, "no API key, or another one"),
        (404, "no such model"),
        (413, "a request that is too large"),
        (429, "too many texts are waiting"),
        (500, "the model could not go on"),
        (503, "the server is shutting down"),
    )
}


def create_app(
    model: LiquidTextGenerationModel,
    tokenizer: LEDTokenizerWrapper,
    name: str,
    *,
    limits: Limits | None = None,
    api_key: str | None = None,
    hosts: Sequence[str] = ("*",),
) -> FastAPI:
    """The server of one model, called `name`.

    Args:
        api_key: what requests must bring as a bearer token; the page and /health are open.
        hosts: names by which it may be called (the Host header), so that no page of another site can make a
            browser call a server on the same machine under a name of its own.
    """
    serving = Serving(model, tokenizer, name, limits or Limits())

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        serving.writer = Writer(model, serving.limits)
        yield
        await asyncio.to_thread(serving.writer.engine.close)

    app = FastAPI(title="liquidlm", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.serving = serving
    key = [] if api_key is None else [Depends(_bearer(api_key))]
    guarded: dict[str, Any] = {"dependencies": key, "responses": ERRORS}

    @app.post("/v1/completions", response_model=Completion, **guarded)
    async def completions(asked: CompletionRequest, request: Request) -> Response:
        """Text that goes on from a prompt, or from each of several."""
        serving.check_model(asked.model)
        choices = await serving.completion_choices(asked)
        shape = CompletionShape(name, tokenizer, asked.logprobs is not None)
        return await serving.answer(asked, request, shape, choices)

    @app.post("/v1/chat/completions", response_model=ChatCompletion, **guarded)
    async def chat(asked: ChatRequest, request: Request) -> Response:
        """The next turn of a conversation, for which the model is given a transcript: `User: …`,
        `Assistant: …`, line by line."""
        serving.check_model(asked.model)
        choices = await serving.chat_choices(asked)
        return await serving.answer(asked, request, ChatShape(name, tokenizer, bool(asked.logprobs)), choices)

    @app.get("/v1/models", response_model=ModelList, **guarded)
    async def models() -> ModelList:
        return ModelList(data=[serving.card])

    @app.get("/v1/models/{model_id:path}", response_model=ModelCard, **guarded)
    async def model_card(model_id: str) -> ModelCard:
        serving.check_model(model_id)
        return serving.card

    @app.post("/liquid/time_constants", response_model=TimeConstants, **guarded)
    async def time_constants(asked: TextRequest) -> TimeConstants:
        """With what time constants the model's state relaxes after each token of a text."""
        return await serving.time_constants(asked.text)

    @app.get("/health", response_model=Health)
    async def health() -> Health:
        return Health.model_validate(serving.writer.engine.load())

    @app.get("/", include_in_schema=False)
    async def index() -> HTMLResponse:
        return page()

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"][1:])
        return refusal(400, f"{place or 'the body'}: {first['msg']}", place or None)

    @app.exception_handler(StarletteHTTPException)
    async def http_error(_: Request, error: StarletteHTTPException) -> Response:
        return refusal(error.status_code, str(error.detail), headers=dict(error.headers or {}))

    @app.exception_handler(LiquidError)
    async def mistake(_: Request, error: LiquidError) -> Response:
        return refusal(400, str(error))

    @app.exception_handler(Busy)
    async def busy(_: Request, error: Busy) -> Response:
        return refusal(error.status, str(error), headers={"Retry-After": "1"})

    @app.exception_handler(Failed)
    async def failed(_: Request, error: Failed) -> Response:
        return refusal(500, f"the model could not go on: {error}")

    app.add_middleware(BodyLimit, most=serving.limits.body_bytes)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))
    app.openapi = lambda: _description(app)
    return app


def _bearer(api_key: str) -> Callable[..., None]:
    """A check of every request for this key."""
    bearer = HTTPBearer(auto_error=False, description="the server's --api-key")

    def check(given: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]) -> None:
        # Headers come as latin-1, whatever was sent.
        sent = b"" if given is None else given.credentials.encode("latin-1")
        if not hmac.compare_digest(sent, api_key.encode()):
            raise HTTPException(401, "give the server's API key as a bearer token")

    return check


def _description(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI description; what FastAPI would answer with 422 is a 400 here."""
    if app.openapi_schema is None:
        app.openapi_schema = get_openapi(title="liquidlm", version=version("liquidlm"), routes=app.routes)
        for path in app.openapi_schema["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)
    return app.openapi_schema
