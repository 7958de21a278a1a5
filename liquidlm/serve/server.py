"""The server as a process: address, signals, shutdown."""

import os
import socket
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI

from ..inference.saving import load_language_model
from ..ops.native.step import Weights
from ..runtime.precision import best_device
from .app import create_app
from .checks import own_hosts
from .connection import ConnectionConfig, connection_limit
from .limits import Limits
from .listening import is_loopback, listen


def serve(
    folder: str,
    *,
    host: str,
    port: int,
    name: str | None,
    api_key: str | None,
    limits: Limits,
    allow_hosts: Sequence[str] = (),
    weights: Weights = "float32",
    states: Path | None = None,
) -> None:
    """Serve a model until SIGINT or SIGTERM. Completions then have `limits.shutdown_seconds` to end.

    Args:
        folder: folder or name of the model (see `load_language_model`).
        host: address to listen on.
        port: to listen on; 0 takes a free one.
        name: the model's name in requests; None takes the folder's.
        api_key: key that requests must send; None asks for none.
        limits: of requests, memory and times.
        allow_hosts: further names by which requests may call the server.
        weights: their type while text is written (`LiquidStep`).
        states: folder of the states that clients keep; None keeps them in memory.

    Raises:
        LiquidError: the folder has no model, or the address is in use or not of this machine.
    """
    if "OMP_NUM_THREADS" not in os.environ:  # one core for requests: the model waits for its slowest thread
        torch.set_num_threads(max(1, torch.get_num_threads() - 1))
    with ExitStack() as stack:
        sockets = [stack.enter_context(one) for one in listen(host, port)]
        model, tokenizer = load_language_model(folder, best_device())
        if not is_loopback(host) and api_key is None:
            print(
                f"anyone who can reach {host} can use this server: protect it with --api-key", file=sys.stderr
            )
        app = create_app(
            model,
            tokenizer,
            name or Path(folder).resolve().name or "model",
            limits=limits,
            api_key=api_key,
            hosts=own_hosts(host, allow_hosts),
            weights=weights,
            states=states,
        )
        address = f"[{host}]" if ":" in host else host
        print(
            f"http://{address}:{sockets[0].getsockname()[1]} — Ctrl-C stops the server",
            file=sys.stderr,
            flush=True,
        )
        with suppress(KeyboardInterrupt):  # uvicorn raises it again at the end
            Server(app, limits).run(sockets)


class Server(uvicorn.Server):
    """A uvicorn server that gives completions time to end before it stops.

    Args:
        app: that `create_app` made.
        limits: of the server; `shutdown_seconds` of them is that time.
        connections: the most of them; None takes as many as the system allows.
        options: of `ConnectionConfig`.
    """

    def __init__(self, app: FastAPI, limits: Limits, connections: int | None = None, **options: Any):
        connections = connection_limit() if connections is None else connections
        # Completions that the engine ends at the limit must still be sent.
        grace = int(limits.shutdown_seconds) + 5
        super().__init__(
            ConnectionConfig(app, connections=connections, timeout_graceful_shutdown=grace, **options)
        )
        self._serving, self._seconds = app.state.serving, limits.shutdown_seconds

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop the engine, then the server."""
        self._serving.writer.engine.stop(self._seconds)
        await super().shutdown(sockets)
