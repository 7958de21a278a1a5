"""Connections of the server: fast when they are used again, and never too many."""

import http.client
import json
import socket
import time
from contextlib import ExitStack

import pytest
from serving import ask, served

from liquidlm import LiquidError
from liquidlm.serve.connection import CONNECTIONS, HEADER_BYTES, OTHER_FILES, connection_limit
from liquidlm.serve.listening import is_loopback, listen

resource = pytest.importorskip("resource")
MOST = 20


@pytest.fixture(scope="module")
def port():
    with served(connection={"connections": MOST, "header_seconds": 0.3}) as port:
        yield port


def opened(port: int, sent: bytes = b"") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=20)
    connection.sendall(sent)
    return connection


def rest(connection: socket.socket) -> bytes:
    """What comes until the server closes the connection."""
    found = b""
    try:
        while part := connection.recv(1 << 16):
            found += part
    except ConnectionResetError:
        pass
    return found


def test_a_connection_that_is_used_again_waits_for_nothing(port) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    took = []
    for _ in range(8):
        begin = time.perf_counter()
        connection.request("GET", "/v1/models")
        connection.getresponse().read()
        took.append(time.perf_counter() - begin)
    connection.close()
    assert min(took[1:]) < 0.03  # Nagle's algorithm made every one 40 ms


def test_open_connections_do_not_keep_others_out(port) -> None:
    with ExitStack() as stack:
        for sent in (b"", b"GET /health HTTP/1.1\r\nHost:", b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n"):
            for _ in range(2 * MOST):
                stack.enter_context(opened(port, sent))
            assert ask(port, "/health")[0] == 200


def test_a_header_that_does_not_come(port) -> None:
    with opened(port) as silent, opened(port, b"GET /health HTTP/1.1\r\nHost: a") as slow:
        assert rest(silent) == b""
        found = rest(slow)
        assert b"408" in found and b"no whole header came within 0.3 s" in found
        json.loads(found.partition(b"\r\n\r\n")[2])
    with opened(port, b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n") as used:
        found = used.recv(4096)
        assert b"200 OK" in found
        used.sendall(b"\r\n")  # not a request, and not silence
        assert (found + rest(used)).endswith(b"}")


def test_a_header_without_end(port) -> None:
    with opened(port, b"GET /health HTTP/1.1\r\nX: ") as connection:
        try:
            for _ in range(400):
                connection.sendall(b"x" * HEADER_BYTES)
        except OSError:
            return
        assert b"431" in rest(connection)


def test_bytes_that_are_not_http(port) -> None:
    with opened(port, b"\x16\x03\x01 hello\r\n\r\n") as connection:
        answer = rest(connection)
    assert b" 400 " in answer and json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["message"]


@pytest.mark.parametrize(
    ("limits", "connections", "raised"),
    [
        ((1024, 1 << 20), CONNECTIONS, CONNECTIONS + OTHER_FILES),
        ((1024, resource.RLIM_INFINITY), CONNECTIONS, CONNECTIONS + OTHER_FILES),
        ((1024, 1024), 1024 - OTHER_FILES, None),
        ((1 << 20, 1 << 20), CONNECTIONS, None),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), CONNECTIONS, None),
        ((64, 64), 16, None),
    ],
)
def test_open_files(limits, connections, raised, monkeypatch) -> None:
    given = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda _, pair: given.append(pair))
    assert connection_limit() == connections
    assert given == ([] if raised is None else [(raised, limits[1])])


def test_addresses() -> None:
    for host in ("127.0.0.1", "127.0.0.2", "::1", "localhost", "LOCALHOST"):
        assert is_loopback(host)
    for host in ("0.0.0.0", "::", "10.1.2.3", "localhost.example.org"):
        assert not is_loopback(host)
    found = listen("localhost", 0)
    try:
        wanted = {one[0] for one in socket.getaddrinfo("localhost", 0, type=socket.SOCK_STREAM)}
        assert {one.family for one in found} <= wanted and len({one.getsockname()[1] for one in found}) == 1
        assert socket.AF_INET in {one.family for one in found}
        with pytest.raises(LiquidError, match="cannot listen on 127"):
            listen("127.0.0.1", found[0].getsockname()[1])
    finally:
        for one in found:
            one.close()
