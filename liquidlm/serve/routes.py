"""The paths of the HTTP API: which request calls what."""

import asyncio
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request
from fastapi.responses import HTMLResponse
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from starlette.responses import Response

from .models import Models
from .page import page
from .parsing import body_description, parsed
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
from .shapes import ChatShape, CompletionShape
from .threads import unless_left

ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorResponse, "description": description}
    for status, description in (
        (400, "The request is not valid."),
        (401, "The API key is missing or wrong."),
        (404, "There is no such model or state."),
        (408, "The body of the request did not arrive in time."),
        (409, "There is a state of this name, or no room for another."),
        (413, "The request is too large."),
        (415, "The request is not JSON."),
        (429, "Too many requests are waiting."),
        (500, "The model failed."),
        (503, "The server is shutting down."),
    )
}


def add_completion_routes(app: FastAPI, models: Models, guarded: dict[str, Any]) -> None:
    """OpenAI's completions and chat; `guarded` are the options of routes that need the API key."""

    values = models.limits.values

    @app.post(
        "/v1/completions",
        response_model=Completion,
        openapi_extra=body_description(CompletionRequest),
        **guarded,
    )
    async def completions(
        asked: Annotated[CompletionRequest, Depends(parsed(CompletionRequest, values))], request: Request
    ) -> Response:
        """Continue a prompt, or each of several prompts."""
        with models.using(asked.model) as serving:
            shape = CompletionShape(serving.name, serving.tokenizer, asked.logprobs is not None)
            return await serving.answer(asked, request, shape, serving.completion_choices(asked))

    @app.post(
        "/v1/chat/completions",
        response_model=ChatCompletion,
        openapi_extra=body_description(ChatRequest),
        **guarded,
    )
    async def chat(
        asked: Annotated[ChatRequest, Depends(parsed(ChatRequest, values))], request: Request
    ) -> Response:
        """Write the next message of a conversation. The model reads it in the format of its chat
        template: by default, lines that begin with `User: ` and `Assistant: `."""
        with models.using(asked.model) as serving:
            shape = ChatShape(serving.name, serving.tokenizer, bool(asked.logprobs))
            return await serving.answer(asked, request, shape, serving.chat_choices(asked))


def add_model_routes(app: FastAPI, models: Models, guarded: dict[str, Any]) -> None:
    """What the models are, and their time constants; `guarded` as in `add_completion_routes`."""

    @app.get("/v1/models", response_model=ModelList, **guarded)
    async def model_list() -> ModelList:
        """The models of this server."""
        return ModelList(data=[serving.card for serving in models])

    @app.get("/v1/models/{model_id:path}", response_model=ModelCard, **guarded)
    async def model_card(model_id: str) -> ModelCard:
        """A model's sizes and limits."""
        return models.of(model_id).card

    @app.post(
        "/liquid/time_constants",
        response_model=TimeConstants,
        openapi_extra=body_description(TextRequest),
        **guarded,
    )
    async def time_constants(
        asked: Annotated[TextRequest, Depends(parsed(TextRequest, models.limits.values))], request: Request
    ) -> Any:
        """The time constants of the model's state after each token of a text."""
        found = await unless_left(request, models.of(asked.model).time_constants(asked.text))
        return Response(status_code=499) if found is None else found

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        text = await asyncio.to_thread(models.metrics.text)
        return Response(text, media_type=CONTENT_TYPE_PLAIN_0_0_4)


def add_open_routes(app: FastAPI, models: Models) -> None:
    """The page and the health check, which need no API key."""

    @app.get("/health", response_model=Health)
    async def health() -> Health:
        """How busy the server is."""
        return Health.model_validate(models.load())

    @app.get("/", include_in_schema=False)
    async def index() -> HTMLResponse:
        return page()
