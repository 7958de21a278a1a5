"""Requests to a server that are no streams: on one connection, for several texts, with large bodies."""

import http.client
import resource
import socket
import statistics
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import psutil

from benchmarks.service import ask, post

IDLE, BODIES, BODY = 1100, 8, 16 << 20


def _seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def reused_connection(port: int, count: int = 100) -> float:
    """Median seconds of a completion of one token, so many on one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    given = {"model": "stories", "prompt": "Once upon a time", "max_tokens": 1, "seed": 0}
    found = [_seconds(lambda: post(connection, "/v1/completions", given)) for _ in range(count)]
    connection.close()
    return statistics.median(found)


def choices(port: int, ids: list[int]) -> dict[str, float]:
    """Seconds of a request for one and for eight texts of 16 tokens, after a prompt that was not read yet."""
    found = {}
    for number, n in enumerate((1, 8)):
        prompt = [ids[number + 100], *ids[:4000]]
        asked = {"prompt": prompt, "n": n, "max_tokens": 16, "seed": 1, "stream": False}
        found[str(n)] = ask(port, **asked)[2][-1]
    return found


def idle_sockets(port: int) -> dict[str, float]:
    """Seconds of /health and of a completion while so many connections are open that ask nothing."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 2 * IDLE)), hard))
    with ExitStack() as stack:
        opened = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
            for _ in range(IDLE)
        ]

        def health() -> None:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            connection.request("GET", "/health")
            if connection.getresponse().status != 200:
                raise SystemExit("/health fails beside idle sockets")
            connection.close()

        one = {"prompt": "Once upon a time", "max_tokens": 16, "seed": 0, "stream": False}
        return {
            "open": len(opened),
            "health": _seconds(health),
            "completion": _seconds(lambda: ask(port, **one)),
        }


def large_bodies(port: int, process: psutil.Process) -> dict[str, Any]:
    """Resident MB before, at most during and after eight bodies of 16 MiB that come at once.

    Their prompts are too long: the server refuses them. A status of 0 is a connection that it closed.
    """
    body = (b'{"model": "stories", "max_tokens": 1, "prompt": "' + b"a " * (BODY // 2))[: BODY - 2] + b'"}'
    done, before = threading.Event(), process.memory_info().rss
    peak = before

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.01):
            peak = max(peak, process.memory_info().rss)

    def send(_: int) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
        try:
            connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
            return connection.getresponse().status
        except ConnectionError:  # refused before it was read
            return 0
        finally:
            connection.close()

    watcher = threading.Thread(target=watch)
    watcher.start()
    with ThreadPoolExecutor(BODIES) as pool:
        statuses = list(pool.map(send, range(BODIES)))
    done.set()
    watcher.join()
    sizes = {"before_mb": before, "peak_mb": peak, "after_mb": process.memory_info().rss}
    return {name: size / 1e6 for name, size in sizes.items()} | {"statuses": statuses}


def named_state(port: int, ids: list[int]) -> float:
    """Seconds to the first token after a state that is kept by name."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    post(connection, "/liquid/states", {"model": "stories", "name": "long", "prompt": ids})
    connection.close()
    return ask(port, prompt="And so", state="long", max_tokens=2, seed=0)[2][0]
