"""The bodies of requests: how large, in what time, and how many at once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .answers import refusal
from .limits import Limits

SMALL = 1 << 16
"""Bodies up to this many bytes are read at once, and in the event loop."""
GRACE = 2.0
"""A body that others wait for may take this many seconds longer than at its pace."""
RETRY = {"Retry-After": "1"}
SHARE = "liquidlm.share"
"""The key of a request's share of the budget in its scope."""


class Share:
    """What a request holds of a budget.

    Args:
        budget: the budget.
        size: bytes.
    """

    def __init__(self, budget: "BodyBudget", size: int):
        self._budget, self.size = budget, size
        self._arriving: asyncio.Timeout | None = None
        self._begun, self._received = 0.0, 0

    def release(self) -> None:
        """Give it back, once the body and what was made of it are gone; later calls do nothing."""
        self._budget.give_back(self)
        self.size = 0

    @asynccontextmanager
    async def arriving(self, seconds: float) -> AsyncIterator[None]:
        """The time in which the body must arrive.

        Raises:
            TimeoutError: it did not, or it is too slow and others wait.
        """
        self._begun = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(seconds) as self._arriving:
                yield
        finally:
            self._arriving = None

    def came(self, size: int) -> None:
        """Count bytes of the body."""
        self._received += size

    def hurry(self, pace: float) -> None:
        """End the time of a body that arrives with fewer bytes per second than `pace`."""
        now = asyncio.get_running_loop().time()
        slow = self._received < pace * (now - self._begun - GRACE)
        if self._arriving is not None and self.size and slow:
            self._arriving.reschedule(now)


class BodyBudget:
    """The memory for large bodies that are received, parsed or tokenized at the same time.

    Args:
        most: bytes.
        pace: bytes per second that a body must have while others wait.
    """

    def __init__(self, most: int, pace: float):
        self.most, self.pace, self.used = most, pace, 0
        self._shares: set[Share] = set()
        self._freed = asyncio.Event()

    async def take(self, size: int) -> Share:
        """Wait for a share of at most `most` bytes. Bodies that hardly arrive do not keep others waiting."""
        while self.used + size > self.most:
            for share in self._shares:
                share.hurry(self.pace)
            with suppress(TimeoutError):
                async with asyncio.timeout(GRACE / 4):
                    await self._freed.wait()
        share = Share(self, size)
        self.used += size
        self._shares.add(share)
        return share

    def give_back(self, share: Share) -> None:
        """Make room for others."""
        self.used -= share.size
        self._shares.discard(share)
        self._freed.set()
        self._freed = asyncio.Event()


class BodyLimit:
    """Middleware: answers 413 to a body that is too large, 408 if it takes too long; large bodies wait
    for each other.

    Args:
        app: gets the requests with their whole body.
        limits: of bodies.
    """

    def __init__(self, app: ASGIApp, limits: Limits):
        self.app, self.limits = app, limits
        pace = limits.body_bytes / limits.body_seconds
        self.budget = BodyBudget(max(limits.bodies_bytes, limits.body_bytes), pace)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Receive the body, check it, then pass the request on (ASGI)."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        headers, most = Headers(scope=scope), self.limits.body_bytes
        # A body in chunks does not say its size.
        size = most if "transfer-encoding" in headers else int(headers.get("content-length", 0))
        if size > most:
            return await self._too_large()(scope, receive, send)
        try:
            async with asyncio.timeout(self.limits.body_seconds):
                share = await self.budget.take(0 if size <= SMALL else size)
        except TimeoutError:
            answer = refusal(503, "other large requests are being read: try again later", headers=RETRY)
            return await answer(scope, receive, send)
        scope[SHARE] = share
        try:
            await self._pass(scope, receive, send)
        finally:
            share.release()

    def _too_large(self) -> Response:
        most = self.limits.body_bytes
        return refusal(413, f"the request has over {most:,} bytes: send a shorter one", code="too_large")

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            share: Share = scope[SHARE]
            async with share.arriving(self.limits.body_seconds):
                whole = await self._body(receive, share)
        except TimeoutError:
            seconds = f"{self.limits.body_seconds:g} s"
            message = f"the request's body did not arrive within {seconds}, or too slowly: send it again"
            answer = refusal(408, message, headers={"Connection": "close"})
            return await answer(scope, receive, send)
        if whole is None:
            return None
        if len(whole[0]["body"]) > self.limits.body_bytes:
            return await self._too_large()(scope, receive, send)

        async def again() -> Message:
            return whole.pop() if whole else await receive()

        return await self.app(scope, again, send)

    async def _body(self, receive: Receive, share: Share) -> list[Message] | None:
        """The body as one message; of a body that is too large a part over the limit; None if the client has
        gone."""
        body, more = bytearray(), True
        while more and len(body) <= self.limits.body_bytes:
            message = await receive()
            if message["type"] != "http.request":
                return None
            body += message.get("body", b"")
            share.came(len(message.get("body", b"")))
            more = message.get("more_body", False)
        return [{"type": "http.request", "body": bytes(body), "more_body": False}]
