"""The server as a process: address, signals, shutdown."""

import os
import socket
import sys
from contextlib import suppress
from pathlib import Path

import torch
import uvicorn

from ..errors import LiquidError
from ..inference.saving import load_model
from ..runtime.precision import best_device
from .app import create_app
from .limits import Limits

CONNECTIONS = 2048
"""At a time; what comes beyond is answered 503."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def serve(
    folder: str, *, host: str, port: int, name: str | None, api_key: str | None, limits: Limits
) -> None:
    """Serve the model in `folder` until SIGINT or SIGTERM; then texts that are being written are given
    `limits.shutdown_seconds` to end.

    Raises:
        LiquidError: no model there, or an address that cannot be had.
    """
    if "OMP_NUM_THREADS" not in os.environ:  # a core for requests: steps wait for the slowest thread
        torch.set_num_threads(max(1, torch.get_num_threads() - 1))
    with _listen(host, port) as listening:
        model, tokenizer = load_model(folder, best_device())
        if host not in LOOPBACK and api_key is None:
            print(f"whoever reaches {host} may use this server: --api-key asks for a key", file=sys.stderr)
        # On a loopback address only under its own names: no other site may get at it through a browser.
        hosts = [*LOOPBACK, "[::1]"] if host in LOOPBACK else ["*"]
        app = create_app(
            model, tokenizer, name or Path(folder).name, limits=limits, api_key=api_key, hosts=hosts
        )
        address = f"[{host}]" if ":" in host else host
        print(f"http://{address}:{listening.getsockname()[1]} — Ctrl-C ends it", file=sys.stderr, flush=True)
        # Texts that are cut off at the end still have to be sent.
        patience = int(limits.shutdown_seconds) + 5
        config = uvicorn.Config(
            app, log_level="warning", timeout_graceful_shutdown=patience, limit_concurrency=CONNECTIONS
        )
        with suppress(KeyboardInterrupt):  # which uvicorn raises again when all is done
            Server(config, app.state.serving, limits.shutdown_seconds).run([listening])


class Server(uvicorn.Server):
    """Lets what is being written come to an end, in a stated time, before it goes."""

    def __init__(self, config: uvicorn.Config, serving, seconds: float):
        super().__init__(config)
        self._serving, self._seconds = serving, seconds

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._serving.writer.engine.stop(self._seconds)
        await super().shutdown(sockets)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        raise LiquidError(f"cannot listen on {host}, port {port}: {error}; choose another --port") from error
