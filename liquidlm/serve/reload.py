"""SIGHUP: the models are read again, while the server goes on."""

import asyncio
import os
import signal
import sys
from collections.abc import Sequence

import uvicorn

from ..errors import first_line
from .model_source import ModelSource
from .models import Models
from .serving import Serving


class Reload:
    """Reads models again. One that cannot be read stays as it is.

    Args:
        sources: where they come from.
        models: those of the server.
    """

    def __init__(self, sources: Sequence[ModelSource], models: Models):
        self.sources, self.models = sources, models
        self._one = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._had_terminal = _has_terminal()
        self._listens = hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
        if self._listens:  # until the server has started, there is nothing to read again
            signal.signal(signal.SIGHUP, lambda *_: None)

    def on_signal(self, server: uvicorn.Server) -> None:
        """Do it whenever SIGHUP comes; where the signal is ignored, as with nohup, it stays ignored.

        If the server's terminal was closed, the signal stops the server, as it stops other programs.
        """
        if not self._listens:
            return

        def came() -> None:
            if self._had_terminal and not _has_terminal():
                server.should_exit = True
                return
            task = asyncio.ensure_future(self.reload())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, came)

    async def reload(self) -> None:
        """Read every model again, one after the other, and say what came of it."""
        async with self._one:
            for source in self.sources:
                before = self.models.of(source.name)
                try:
                    new = await asyncio.to_thread(source.load, before)
                    self.models.replace(new)
                except Exception as error:  # whatever is wrong with the new one, the old one goes on
                    _say(f"{source.name} is not reloaded, the old model stays in use: {first_line(error)}")
                    continue
                _say(f"{source.name} is reloaded{_lost(before, new)}")


def _lost(before: Serving, new: Serving) -> str:
    """What a message says of states that are of the old weights."""
    if before.states.model == new.states.model or not (count := len(before.states.facts())):
        return ""
    return f"; its weights have changed: {count} kept states are of the old ones, and cannot be used"


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
