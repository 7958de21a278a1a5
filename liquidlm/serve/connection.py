"""Connections of clients: how many there may be, and how long they may wait for their client."""

import asyncio
import sys
import time

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .answers import refusal
from .listening import BACKLOG

CONNECTIONS = 2048
"""Connections at the same time, if the system allows as many open files."""
OTHER_FILES = 128 + 2 * BACKLOG
"""Open files that are not connections, and connections that are being accepted or closed."""
HEADER_SECONDS = 10.0
"""Time for the header of a request to arrive."""
HEADER_BYTES = 1 << 16
"""The largest header of a request, about."""
KEEP_ALIVE_SECONDS = 120
"""Time that a connection may be idle between two requests; proxies keep theirs for 60 s."""


def connection_limit() -> int:
    """How many connections the system allows, after its soft limit of open files was raised for them."""
    if sys.platform == "win32":
        return 512 - BACKLOG  # select() takes as many sockets there
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTIONS + OTHER_FILES
    if soft == resource.RLIM_INFINITY:
        return CONNECTIONS
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        soft = most
    return min(CONNECTIONS, max(soft // 4, soft - OTHER_FILES))


class ConnectionConfig(uvicorn.Config):
    """uvicorn's configuration, with limits of connections.

    Args:
        app: the application.
        connections: the largest number of them.
        header_seconds: time for the header of a request to arrive.
        options: of uvicorn.
    """

    def __init__(self, app, *, connections: int, header_seconds: float = HEADER_SECONDS, **options):
        # Its warnings are mistakes of clients, which could fill the log.
        super().__init__(
            app,
            http=Connection,
            ws="none",
            log_level="error",
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            server_header=False,
            **options,
        )
        self.connections, self.header_seconds = connections, header_seconds


class Connection(HttpToolsProtocol):
    """A connection that is closed if its client sends no header in time, or if it idles while others come."""

    config: ConnectionConfig
    connections: "set[Connection]"

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._timer: asyncio.TimerHandle | None = None
        self._in_header, self._header_bytes = False, 0
        self._since = time.monotonic()

    @property
    def waits(self) -> bool:
        """Whether the client must send something now: a request or the rest of it."""
        return self._between_requests or self.cycle.more_body

    @property
    def _between_requests(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Start to wait for a header; over the limit of connections, close one."""
        super().connection_made(transport)
        self._expect_header()
        if len(self.connections) > self.config.connections:
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more."""
        self._expect_nothing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Pass on what came, if the header is not too long."""
        self._header_bytes += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if not self._between_requests:
            self._expect_nothing()
        elif self._timer is None:
            self._expect_header()
        if self._in_header and self._header_bytes > HEADER_BYTES:
            self._refuse(431, f"the header of the request is over {HEADER_BYTES:,} bytes: send a shorter one")

    def on_message_begin(self) -> None:
        """The first byte of a request came."""
        self._in_header, self._header_bytes = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The header is whole."""
        self._in_header = False
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """The response is sent: the connection is idle from now on."""
        self._since = time.monotonic()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer bytes that are not HTTP in the form of all errors."""
        self._refuse(400, f"{msg} Send a request of HTTP/1.1")

    def _unsupported_upgrade_warning(self) -> None:
        """Nothing: the request is answered as if it asked for no upgrade."""

    def _expect_header(self) -> None:
        self._timer = self.loop.call_later(self.config.header_seconds, self._give_up)

    def _expect_nothing(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        if self._in_header:
            self._refuse(408, f"no whole header came within {self.config.header_seconds:g} s: send it again")
        self.transport.close()

    def _make_room(self) -> None:
        """Close the connection that waits longest for its client; this one if none waits."""
        others = [one for one in self.connections if not one.transport.is_closing()]
        if len(others) <= self.config.connections:
            return
        waiting = [one for one in others if one.waits and one is not self]
        if waiting:
            min(waiting, key=lambda one: one._since).transport.abort()
        else:
            self._refuse(503, f"{len(others) - 1} connections are in use: try again later")

    def _refuse(self, status: int, message: str) -> None:
        answer = refusal(status, message, headers={"Connection": "close"})
        head = b"".join(b"%s: %s\r\n" % pair for pair in answer.raw_headers)
        self.transport.write(b"HTTP/1.1 %d \r\n%s\r\n%s" % (status, head, bytes(answer.body)))
        self.transport.close()
