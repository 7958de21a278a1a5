"""Requests that several tests of the server send."""

import json
import socket

from serving import NAME

ASKED = {"model": NAME, "prompt": "Once", "max_tokens": 20, "seed": 1}
ENDLESS = ASKED | {"max_tokens": 60_000, "temperature": 0}
"""The likeliest tokens, of which `</s>` is never one: see `tiny`."""


def raw(port: int, body: dict, length: int | None = None) -> socket.socket:
    """A connection with a request on it, of whose body perhaps only a part is sent."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=60)
    sent = json.dumps(body).encode()
    head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    connection.sendall(f"{head}Content-Length: {length or len(sent)}\r\n\r\n".encode() + sent)
    return connection
