"""What a server grants, and what it says beyond it."""

import asyncio
import hmac
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .answers import refusal


@dataclass(frozen=True)
class Limits:
    """Attributes:
    body_bytes, body_seconds: of a request, and until it is there.
    prompt_tokens, new_tokens: of a text.
    rows: texts written at a time; of one request no more either.
    waiting: texts that may wait beside them.
    seconds: for a text, waiting included.
    cache_bytes: states kept of prompts that were read.
    shutdown_seconds: for texts that are being written when the server is asked to stop.
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
    """Refuses what lies under `prefixes` to whoever does not bring the key as a bearer token."""

    def __init__(self, app: ASGIApp, key: str, prefixes: tuple[str, ...]):
        self.app, self.wanted, self.prefixes = app, b"bearer " + key.encode(), prefixes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(self.prefixes):
            kind, _, key = dict(scope["headers"]).get(b"authorization", b"").partition(b" ")
            if not hmac.compare_digest(kind.lower() + b" " + key.strip(), self.wanted):
                answer = refusal(401, "give the server's API key as a bearer token")
                return await answer(scope, receive, send)
        return await self.app(scope, receive, send)


class BodyLimit:
    """Refuses a request whose body is too large before it is all read, or does not come."""

    def __init__(self, app: ASGIApp, most: int, seconds: float):
        self.app, self.most, self.seconds = app, most, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        try:
            async with asyncio.timeout(self.seconds):
                body = await self._body(receive)
        except TimeoutError:
            answer = refusal(408, f"the request did not come within {self.seconds:g} s")
            return await answer(scope, receive, send)
        if body is None:
            return None
        if len(body) > self.most:
            answer = refusal(413, f"the request is over {self.most:,} bytes", code="too_large")
            return await answer(scope, receive, send)
        whole: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def again() -> Message:
            return whole.pop() if whole else await receive()

        return await self.app(scope, again, send)

    async def _body(self, receive: Receive) -> bytes | None:
        """All of it, or of one too large more than is allowed; None if the client has gone."""
        body, more = bytearray(), True
        while more and len(body) <= self.most:
            message = await receive()
            if message["type"] != "http.request":
                return None
            body += message.get("body", b"")
            more = message.get("more_body", False)
        return bytes(body)
