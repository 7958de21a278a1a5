"""Checks of requests before a route sees them: the host that they name, the key, the method."""

import hmac
import ipaddress
import socket
from collections.abc import Sequence

from starlette.types import ASGIApp, Receive, Scope, Send

from .answers import refusal
from .listening import is_loopback
from .parsing import quoted

EVERY_ADDRESS = ("0.0.0.0/0", "::/0")
LOOPBACK_ADDRESSES = ("127.0.0.0/8", "::1/128")


class KeyCheck:
    """Middleware: answers 401 to requests without the API key as a bearer token, except for open paths."""

    def __init__(self, app: ASGIApp, key: str, open_: tuple[str, ...]):
        self.app, self.wanted, self.open = app, b"bearer " + key.encode(), open_

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check a request, then pass it on (ASGI)."""
        if scope["type"] == "http" and scope["path"] not in self.open:
            kind, _, key = dict(scope["headers"]).get(b"authorization", b"").partition(b" ")
            if not hmac.compare_digest(kind.lower() + b" " + key.strip(), self.wanted):
                message = "no valid API key: send the server's API key as a bearer token"
                answer = refusal(401, message, headers={"WWW-Authenticate": "Bearer"})
                return await answer(scope, receive, send)
        return await self.app(scope, receive, send)


def own_hosts(host: str, more: Sequence[str] = ()) -> list[str]:
    """The hosts that requests to a server may name, for `HostCheck`.

    A page of another site can make its own name lead to this server. So a name must be known; an address
    cannot be changed in this way.

    >>> own_hosts("127.0.0.1", ["llm.example.org"])
    ['127.0.0.0/8', '::1/128', 'localhost', '127.0.0.1', 'llm.example.org']

    Args:
        host: that the server listens on.
        more: further names and addresses.
    """
    if is_loopback(host):
        return [*LOOPBACK_ADDRESSES, "localhost", host, *more]
    name = socket.gethostname()
    return [*EVERY_ADDRESS, "localhost", host, name, f"{name.partition('.')[0]}.local", *more]


class HostCheck:
    """Middleware: answers 400 to requests that name another host in their Host header.

    Args:
        app: gets the other requests.
        hosts: names, addresses, networks such as 10.0.0.0/8, `*.example.org` for all names below, `*` for
            all.
    """

    def __init__(self, app: ASGIApp, hosts: Sequence[str]):
        self.app, self.names = app, {host.lower().rstrip(".") for host in hosts}
        self.networks = [network for host in hosts if (network := _network(host)) is not None]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check a request, then pass it on (ASGI)."""
        if scope["type"] == "http" and "*" not in self.names:
            # A request without the header comes from no browser.
            for name, value in scope["headers"]:
                if name == b"host" and not self._allows(host := value.decode("latin-1")):
                    answer = refusal(
                        400,
                        f"this server does not answer to the name {quoted(host)}: call it by its address, or"
                        " start it with --allow-host and this name",
                    )
                    return await answer(scope, receive, send)
        return await self.app(scope, receive, send)

    def _allows(self, header: str) -> bool:
        host = header.lower().strip()
        host = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0].rstrip(".")
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            above = [f"*.{host.split('.', n)[-1]}" for n in range(1, host.count(".") + 1)]
            return host in self.names or not self.names.isdisjoint(above)
        return any(address in network for network in self.networks)


def _network(host: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(host)
    except ValueError:
        return None


class HeadAsGet:
    """Middleware: a route that answers GET answers HEAD too. The server leaves out the body."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on (ASGI)."""
        if scope["type"] == "http" and scope["method"] == "HEAD":
            as_get = {**scope, "method": "GET"}
            try:
                return await self.app(as_get, receive, send)
            finally:
                scope["route"] = as_get.get("route")
        return await self.app(scope, receive, send)
