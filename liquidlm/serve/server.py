"""The server as a process: address, signals, shutdown."""

import os
import socket
import sys
from contextlib import suppress
from pathlib import Path

import torch
import uvicorn

from ..errors import LiquidError
from ..inference.saving import load_language_model
from ..ops.native.step import Weights
from ..runtime.precision import best_device
from .app import create_app
from .limits import Limits

CONNECTIONS = 2048
"""Connections at the same time. Further ones get status 503."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Names of this machine for itself. Other machines cannot reach them."""


def serve(
    folder: str,
    *,
    host: str,
    port: int,
    name: str | None,
    api_key: str | None,
    limits: Limits,
    weights: Weights = "float32",
) -> None:
    """Serve a model until SIGINT or SIGTERM. Completions then have `limits.shutdown_seconds` to end.

    Args:
        folder: folder or name of the model (see `load_language_model`).
        host: address to listen on.
        port: to listen on; 0 takes a free one.
        name: the model's name in requests; None takes the folder's.
        api_key: key that requests must send; None asks for none.
        limits: of requests, memory and times.
        weights: their type while text is written (`LiquidStep`).

    Raises:
        LiquidError: the folder has no model, or the address is in use or not of this machine.
    """
    if "OMP_NUM_THREADS" not in os.environ:  # one core for requests: the model waits for its slowest thread
        torch.set_num_threads(max(1, torch.get_num_threads() - 1))
    with _listen(host, port) as listening:
        model, tokenizer = load_language_model(folder, best_device())
        if host not in LOOPBACK and api_key is None:
            print(
                f"anyone who can reach {host} can use this server: protect it with --api-key", file=sys.stderr
            )
        # On a loopback address only its own names: other sites must not call it through a browser.
        hosts = [*LOOPBACK, "[::1]"] if host in LOOPBACK else ["*"]
        app = create_app(
            model,
            tokenizer,
            name or Path(folder).name,
            limits=limits,
            api_key=api_key,
            hosts=hosts,
            weights=weights,
        )
        address = f"[{host}]" if ":" in host else host
        print(
            f"http://{address}:{listening.getsockname()[1]} — Ctrl-C stops the server",
            file=sys.stderr,
            flush=True,
        )
        # Completions that the engine ends at the limit must still be sent.
        grace = int(limits.shutdown_seconds) + 5
        config = uvicorn.Config(
            app, log_level="warning", timeout_graceful_shutdown=grace, limit_concurrency=CONNECTIONS
        )
        with suppress(KeyboardInterrupt):  # uvicorn raises it again at the end
            Server(config, app.state.serving, limits.shutdown_seconds).run([listening])


class Server(uvicorn.Server):
    """A uvicorn server that gives completions `seconds` to end before it stops."""

    def __init__(self, config: uvicorn.Config, serving, seconds: float):
        super().__init__(config)
        self._serving, self._seconds = serving, seconds

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop the engine, then the server."""
        self._serving.writer.engine.stop(self._seconds)
        await super().shutdown(sockets)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        raise LiquidError(f"cannot listen on {host}, port {port}: {error}; choose another --port") from error
