"""The sockets that a server listens on, and the origins that may use it.

The command `serve` checks both before it imports the models.
"""

import errno
import ipaddress
import os
import re
import socket
from collections.abc import Sequence

from ..errors import LiquidError, first_line

BACKLOG = 64
"""Connections that wait to be accepted, and connections accepted at once."""
NO_IPV6 = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT)
"""Errors of an address of a kind that this machine does not have."""
ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(\[[0-9a-f:.]+\]|[a-z0-9.-]+)(:[0-9]+)?")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address.

    >>> is_loopback("127.0.0.2"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    address = _address(host)
    return host.lower() == "localhost" if address is None else address.is_loopback


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def check_origin(origin: str) -> None:
    """Check an origin of web pages, as browsers send it; `*` means all origins.

    >>> check_origin("https://chat.example.org")

    Raises:
        LiquidError: it is not an origin.
    """
    if origin != "*" and not ORIGIN.fullmatch(origin):
        raise LiquidError(
            f"--cors {origin}: give an origin such as https://chat.example.org or http://localhost:3000, in"
            " lower case and without a path or a last /"
        )


def check_free(host: str, port: int) -> None:
    """Check that a server can listen on a port of a host now.

    Raises:
        LiquidError: as for `listen`.
    """
    for one in listen(host, port):
        one.close()


def listen(host: str, port: int) -> list[socket.socket]:
    """Listen on every address of a host: `localhost` has one of IPv4 and one of IPv6.

    Args:
        host: a name or an address.
        port: of all its addresses; 0 takes a free one.

    Raises:
        LiquidError: the host has no address, or the port is in use.
    """
    sockets: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        addresses = list(dict.fromkeys((one[0], one[4]) for one in found))
        for number, (family, address) in enumerate(addresses, 1):
            try:
                sockets.append(_bound(family, (address[0], port, *address[2:])))
            except OSError as error:
                another = bool(sockets) or number < len(addresses)
                if not (another and error.errno in NO_IPV6):
                    raise
            else:
                port = sockets[0].getsockname()[1]
    except (OSError, UnicodeError) as error:
        for one in sockets:
            one.close()
        raise LiquidError(
            f"cannot listen on {host}, port {port}: {first_line(error)}; choose another --port"
        ) from error
    return sockets


def _bound(family: int, address: Sequence[str | int]) -> socket.socket:
    # With this protocol number asyncio turns off Nagle's algorithm, which delays answers by 40 ms.
    one = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":  # elsewhere it means that several programs share the port
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:  # `::` is every address, of IPv4 too
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(address[0] != "::"))
        one.bind(tuple(address))
        one.listen(BACKLOG)
    except BaseException:
        one.close()
        raise
    return one
