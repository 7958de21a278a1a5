"""The HTTP server of some models: OpenAI's completions and chat, and what a liquid model adds to them."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import Depends, FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.openapi.utils import get_openapi
from fastapi.security import HTTPBearer

from .access_log import AccessLog
from .bodies import BodyLimit
from .checks import HeadAsGet, HostCheck, KeyCheck
from .error_handlers import add_error_handlers
from .limits import Limits
from .models import Models
from .parsing import schemas
from .routes import ERRORS, add_completion_routes, add_model_routes, add_open_routes
from .schema import ChatRequest, CompletionRequest, TextRequest
from .state_routes import add_state_routes
from .state_schema import StateRequest
from .token_routes import add_token_routes
from .token_schema import DetokenizeRequest, TokenizeRequest
from .watching import Watch

BODIES = (CompletionRequest, ChatRequest, TextRequest, StateRequest, TokenizeRequest, DetokenizeRequest)
OPEN = ("/", "/health", "/openapi.json")
"""Paths that need no key."""


def create_app(
    models: Models,
    *,
    api_key: str | None = None,
    hosts: Sequence[str] = ("*",),
    origins: Sequence[str] = (),
    log: AccessLog | None = None,
) -> FastAPI:
    """The ASGI application that serves models.

    Args:
        models: with the limits of the server.
        api_key: key that requests must send as a bearer token; None asks for none. The page and /health are
            open.
        hosts: that requests may name (`HostCheck`). They keep other sites from calling a server through a
            user's browser.
        origins: of web pages of other sites that may use the server; `*` is every one.
        log: of requests; None for none.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        models.start()
        yield
        await models.close()

    app = FastAPI(title="liquidlm", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.models = models
    guarded: dict[str, Any] = {"dependencies": _key_description(api_key), "responses": ERRORS}
    add_completion_routes(app, models, guarded)
    add_model_routes(app, models, guarded)
    add_state_routes(app, models, guarded)
    add_token_routes(app, models, guarded)
    add_open_routes(app, models)
    add_error_handlers(app)
    _add_checks(app, models.limits, api_key, hosts, origins)
    app.add_middleware(Watch, metrics=models.metrics, log=log)
    app.openapi = lambda: _description(app)
    return app


def _key_description(api_key: str | None) -> list[Any]:
    """The API key in the OpenAPI description. The middleware checks it, before the body is read."""
    bearer = HTTPBearer(auto_error=False, description="the server's --api-key")
    return [] if api_key is None else [Depends(bearer)]


def _add_checks(
    app: FastAPI, limits: Limits, api_key: str | None, hosts: Sequence[str], origins: Sequence[str]
) -> None:
    """Check every request before a route sees it: the host first, then the origin, the key, the body."""
    app.add_middleware(BodyLimit, limits=limits)
    if api_key is not None:
        app.add_middleware(KeyCheck, key=api_key, open_=OPEN)
    if origins:  # a browser asks without the key whether it may send it
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["*"],
            expose_headers=["Warning", "Retry-After"],
        )
    app.add_middleware(HostCheck, hosts=hosts)
    app.add_middleware(HeadAsGet)


def _description(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI description. This server answers 400 where FastAPI would answer 422."""
    if app.openapi_schema is None:
        app.openapi_schema = get_openapi(title="liquidlm", version=version("liquidlm"), routes=app.routes)
        for path in app.openapi_schema["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)
        app.openapi_schema["components"]["schemas"] |= schemas(*BODIES)
    return app.openapi_schema
