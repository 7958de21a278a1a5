"""A server in a process of its own, and requests to it over HTTP: what the benchmark of the server asks."""

import http.client
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil


@contextmanager
def server(folder: str, *options: str) -> Iterator[tuple[int, psutil.Process]]:
    """Port and process of one."""
    command = [sys.executable, "-m", "liquidlm", "serve", folder, "--port", "0", *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        while not (found := re.search(r"http://127.0.0.1:(\d+)", line := process.stderr.readline())):
            if not line:
                raise SystemExit(f"the server of {folder} did not start")
        yield int(found[1]), psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()
        process.stderr.close()


def post(connection: http.client.HTTPConnection, path: str, given: dict[str, Any]) -> dict[str, Any]:
    """The whole answer of a request on an open connection."""
    connection.request("POST", path, json.dumps(given), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    found = answer.read()
    if answer.status >= 300:
        raise SystemExit(f"{answer.status}: {found.decode()[:500]}")
    return json.loads(found)


def ask(port: int, **asked: Any) -> tuple[str, dict[str, Any], list[float]]:
    """Text, usage, and the seconds to the first token and to the end."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    begin = time.perf_counter()
    given = {"model": "stories", "stream_options": {"include_usage": True}, "stream": True, **asked}
    if not given["stream"]:
        whole = post(connection, "/v1/completions", given)
        connection.close()
        return whole["choices"][0]["text"], whole["usage"], [time.perf_counter() - begin]
    connection.request("POST", "/v1/completions", json.dumps(given), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    if answer.status != 200:
        raise SystemExit(f"{answer.status}: {answer.read().decode()}")
    text, usage, seconds = [], {}, []
    for line in answer:
        if line.startswith(b"data: {"):
            part = json.loads(line[6:])
            text += [choice["text"] for choice in part["choices"]]
            usage = part.get("usage") or usage
            if not seconds:
                seconds.append(time.perf_counter() - begin)
    connection.close()
    return "".join(text), usage, [*seconds, time.perf_counter() - begin]
