"""Watches requests from their first byte to the last of the answer, for the metrics and the access log."""

import time
from collections.abc import Callable
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .access_log import AccessLog
from .metrics import Metrics

FACTS = "liquidlm.facts"
"""The key, in the scope of a request, of a function that is asked at the end for more to say of it."""
LEFT = 499
"""The status of a request whose client left before the answer."""


class Watch:
    """Middleware: counts each request, and writes a line about it.

    Args:
        app: answers.
        metrics: count the requests.
        log: None for none.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, log: AccessLog | None):
        self.app, self.metrics, self.log = app, metrics, log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on (ASGI)."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        begun, status = time.monotonic(), LEFT

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            return await self.app(scope, receive, watched)
        finally:
            self._end(scope, status, time.monotonic() - begun)

    def _end(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "other")
        self.metrics.answered(scope["method"], route, status, seconds)
        if self.log is not None:
            client = (scope.get("client") or ("-",))[0]
            facts: Callable[[], dict[str, Any]] = scope.get(FACTS, dict)
            self.log.write(client, scope["method"], scope["path"], status, 1000 * seconds, facts())
