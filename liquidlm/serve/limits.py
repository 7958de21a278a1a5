"""What a server grants, and what it says beyond it."""

from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .answers import refusal


@dataclass(frozen=True)
class Limits:
    """Attributes:
    body_bytes: of a request.
    prompt_tokens, new_tokens: of a text.
    rows: texts written at a time.
    waiting: texts that may wait beside them; of one request no more either.
    seconds: for a text, waiting included.
    cache_bytes: states kept of prompts that were read.
    shutdown_seconds: for texts that are being written when the server is asked to stop.
    """

    body_bytes: int = 16 << 20
    prompt_tokens: int = 1 << 20
    new_tokens: int = 1 << 16
    rows: int = 32
    waiting: int = 256
    seconds: float = 600.0
    cache_bytes: int = 256 << 20
    shutdown_seconds: float = 10.0


class BodyLimit:
    """Refuses a request whose body is too large before it is all read."""

    def __init__(self, app: ASGIApp, most: int):
        self.app, self.most = app, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        body, more = bytearray(), True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return None  # gone
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > self.most:
                answer = refusal(413, f"the request is over {self.most:,} bytes", code="too_large")
                return await answer(scope, receive, send)
        whole: list[Message] = [{"type": "http.request", "body": bytes(body), "more_body": False}]

        async def again() -> Message:
            return whole.pop() if whole else await receive()

        return await self.app(scope, again, send)
