"""The HTTP API: OpenAI's completions and chat, streamed or whole, and what a liquid model has beyond them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import Response

from ..errors import LiquidError
from ..model.language_model import LiquidTextGenerationModel
from ..text.tokenizer import LEDTokenizerWrapper
from .answers import refusal
from .engine import Busy
from .limits import BodyLimit, KeyCheck, Limits
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
from .serving import Serving, unless_left
from .shapes import ChatShape, CompletionShape
from .writer import Failed, Writer

ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorResponse, "description": what}
    for status, what in (
        (400, "a request that makes no sense"),
        (401, "no API key, or another one"),
        (404, "no such model"),
        (408, "a body that does not come"),
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
    # The middleware looks at the key, before the body is read; here it is described.
    bearer = HTTPBearer(auto_error=False, description="the server's --api-key")
    key = [] if api_key is None else [Depends(bearer)]
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
    async def time_constants(asked: TextRequest, request: Request) -> Any:
        """With what time constants the model's state relaxes after each token of a text."""
        found = await unless_left(request, serving.time_constants(asked.text))
        return Response(status_code=499) if found is None else found

    @app.get("/health", response_model=Health)
    async def health() -> Health:
        return Health.model_validate(serving.writer.engine.load())

    @app.get("/", include_in_schema=False)
    async def index() -> HTMLResponse:
        return page()

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        name = next((part for part in first["loc"][1:2] if isinstance(part, str)), None)
        return refusal(400, f"{name or 'the body'}: {first['msg'].removeprefix('Value error, ')}", name)

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

    @app.exception_handler(Exception)
    async def unforeseen(_: Request, __: Exception) -> Response:
        return refusal(500, "the server has failed; its log says how")

    app.add_middleware(BodyLimit, most=serving.limits.body_bytes, seconds=serving.limits.body_seconds)
    if api_key is not None:
        app.add_middleware(KeyCheck, key=api_key, prefixes=("/v1/", "/liquid/"))
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))
    app.openapi = lambda: _description(app)
    return app


def _description(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI description; what FastAPI would answer with 422 is a 400 here."""
    if app.openapi_schema is None:
        app.openapi_schema = get_openapi(title="liquidlm", version=version("liquidlm"), routes=app.routes)
        for path in app.openapi_schema["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)
    return app.openapi_schema
