"""The limits of a server, and the checks of requests before a route sees them."""

import asyncio
import hmac
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .answers import refusal


@dataclass(frozen=True)
class Limits:
    """Limits of a server.

    Attributes:
        body_bytes: size of a request's body.
        body_seconds: time in which the body must arrive.
        prompt_tokens: tokens of a prompt.
        new_tokens: tokens of a completion.
        rows: completions written at the same time, and completions of one request.
        waiting: further completions that may wait.
        seconds: time for a completion, waiting included.
        cache_bytes: memory of the prefix cache.
        shutdown_seconds: time that completions have to end when the server stops.
    """

    body_bytes: int = 16 << 20
    body_seconds: float = 60.0
    prompt_tokens: int = 1 << 20
    new_tokens: int = 1 << 16
    rows: int = 32
    waiting: int = 256
    seconds: float = 600.0
    cache_bytes: int = 256 << 20
    shutdown_seconds: float = 10.0


class KeyCheck:
    """Middleware: answers 401 to requests under `prefixes` without the API key as a bearer token."""

    def __init__(self, app: ASGIApp, key: str, prefixes: tuple[str, ...]):
        self.app, self.wanted, self.prefixes = app, b"bearer " + key.encode(), prefixes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check a request, then pass it on (ASGI)."""
        if scope["type"] == "http" and scope["path"].startswith(self.prefixes):
            kind, _, key = dict(scope["headers"]).get(b"authorization", b"").partition(b" ")
            if not hmac.compare_digest(kind.lower() + b" " + key.strip(), self.wanted):
                answer = refusal(401, "no valid API key: send the server's API key as a bearer token")
                return await answer(scope, receive, send)
        return await self.app(scope, receive, send)


class BodyLimit:
    """Middleware: answers 413 if a body is larger than `most` bytes, 408 if it takes over `seconds`."""

    def __init__(self, app: ASGIApp, most: int, seconds: float):
        self.app, self.most, self.seconds = app, most, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Receive the body, check it, then pass the request on (ASGI)."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        try:
            async with asyncio.timeout(self.seconds):
                body = await self._body(receive)
        except TimeoutError:
            answer = refusal(
                408, f"the request's body did not arrive within {self.seconds:g} s: send it again"
            )
            return await answer(scope, receive, send)
        if body is None:
            return None
        if len(body) > self.most:
            answer = refusal(
                413, f"the request has over {self.most:,} bytes: send a shorter one", code="too_large"
            )
            return await answer(scope, receive, send)
        whole: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def again() -> Message:
            return whole.pop() if whole else await receive()

        return await self.app(scope, again, send)

    async def _body(self, receive: Receive) -> bytes | None:
        """The body; of a body that is too large a part over the limit; None if the client has gone."""
        body, more = bytearray(), True
        while more and len(body) <= self.most:
            message = await receive()
            if message["type"] != "http.request":
                return None
            body += message.get("body", b"")
            more = message.get("more_body", False)
        return bytes(body)
