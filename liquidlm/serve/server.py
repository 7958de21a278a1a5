"""The server as a process: address, signals, shutdown."""

import os
import socket
import sys
from collections.abc import Sequence
from contextlib import ExitStack, closing, suppress
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI

from ..runtime.allocator import return_freed_memory, share_freed_memory
from .access_log import AccessLog
from .app import create_app
from .checks import own_hosts
from .connection import ConnectionConfig, connection_limit
from .limits import Limits
from .listening import check_origin, is_loopback, listen
from .model_source import ModelSource
from .models import Models
from .reload import Reload


def serve(
    sources: Sequence[ModelSource],
    limits: Limits,
    *,
    host: str,
    port: int,
    api_key: str | None = None,
    allow_hosts: Sequence[str] = (),
    origins: Sequence[str] = (),
    access_log: str | None = None,
) -> None:
    """Serve models until SIGINT or SIGTERM. Completions then have `limits.shutdown_seconds` to end.

    SIGHUP reads the models again. Texts that are being written go on with the old ones.

    Args:
        sources: the models.
        limits: of requests, memory and times of the server.
        host: address to listen on.
        port: to listen on; 0 takes a free one.
        api_key: key that requests must send; None asks for none.
        allow_hosts: further names by which requests may call the server.
        origins: of web pages of other sites that may use the server; `*` means all origins.
        access_log: file for a line about each request; "-" is the standard error, None writes none.

    Raises:
        LiquidError: a folder has no model, the address is in use or not of this machine, an origin is not
            valid, or the log cannot be opened.
    """
    if "OMP_NUM_THREADS" not in os.environ:  # one core for requests: the model waits for its slowest thread
        torch.set_num_threads(max(1, torch.get_num_threads() - 1))
    share_freed_memory()
    with ExitStack() as stack:
        for origin in origins:
            check_origin(origin)
        log = None if access_log is None else stack.enter_context(closing(AccessLog(access_log)))
        sockets = [stack.enter_context(one) for one in listen(host, port)]
        models = Models([source.load() for source in sources], limits)
        return_freed_memory()  # what loading needed
        if not is_loopback(host) and api_key is None:
            print(
                f"anyone who can reach {host} can use this server: protect it with --api-key", file=sys.stderr
            )
        if "*" in origins and api_key is None:
            print("any web page that is opened on this machine can use this server", file=sys.stderr)
        hosts = own_hosts(host, allow_hosts)
        reload = Reload(sources, models)
        app = create_app(models, api_key=api_key, hosts=hosts, origins=origins, log=log)
        address = f"[{host}]" if ":" in host else host
        print(
            f"http://{address}:{sockets[0].getsockname()[1]} — Ctrl-C stops the server",
            file=sys.stderr,
            flush=True,
        )
        with suppress(KeyboardInterrupt):  # uvicorn raises it again at the end
            Server(app, reload=reload).run(sockets)


class Server(uvicorn.Server):
    """A uvicorn server that gives completions time to end before it stops.

    Args:
        app: that `create_app` made.
        connections: the largest number of them; None: as many as the system allows.
        reload: what SIGHUP does; None leaves the signal alone.
        options: of `ConnectionConfig`.
    """

    def __init__(
        self, app: FastAPI, connections: int | None = None, reload: Reload | None = None, **options: Any
    ):
        self._models: Models = app.state.models
        self._seconds, self._reload = self._models.limits.shutdown_seconds, reload
        connections = connection_limit() if connections is None else connections
        # Completions that the engine ends at the limit must still be sent.
        grace = int(self._seconds) + 5
        super().__init__(
            ConnectionConfig(app, connections=connections, timeout_graceful_shutdown=grace, **options)
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve, and to listen to SIGHUP."""
        await super().startup(sockets)
        if self._reload is not None:
            self._reload.on_signal(self)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop the engines, then the server."""
        self._models.stop(self._seconds)
        await super().shutdown(sockets)
