"""From the engine's thread to the server's event loop: texts as they come."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any

from ..model.language_model import LiquidTextGenerationModel
from .engine import Busy, Engine
from .jobs import Ended, Event, Job, Read, Token
from .limits import Limits
from .text import Piece, Text


@dataclass(eq=False)
class Choice:
    """A text that is written for a request.

    Attributes:
        echo: what is sent before it, if anything is.
        cached: tokens of its prompt whose state was there, once it is read.
    """

    job: Job
    text: Text
    echo: str | None = None
    cached: int = 0


MOST_EVENTS = 8192
"""Of a request, that may wait for a client who does not read."""


class Failed(Exception):
    """The model could not go on."""


class Writer:
    """An engine for callers in one event loop."""

    def __init__(self, model: LiquidTextGenerationModel, limits: Limits):
        self._loop = asyncio.get_running_loop()
        self._listeners: dict[Job, asyncio.Queue[tuple[Job, Event]]] = {}
        self.engine = Engine(
            model,
            lambda events: self._loop.call_soon_threadsafe(self._hand_out, events),
            rows=limits.rows,
            waiting=limits.waiting,
            cache_bytes=limits.cache_bytes,
        )

    def _hand_out(self, events: list[tuple[Job, Event]]) -> None:
        for job, event in events:
            if (queue := self._listeners.get(job)) is None:
                continue
            if queue.qsize() > MOST_EVENTS and not isinstance(event, Ended):
                self.engine.cancel(job)
                event = Ended("failed", "what is written was not taken")
            queue.put_nowait((job, event))

    async def write(self, choices: Sequence[Choice]) -> AsyncGenerator[tuple[int, Piece], None]:
        """The pieces of all, with the number of the choice each is of; the last one of each has an end.

        Leaving early, by an exception or a cancellation too, ends what is being written.

        Raises:
            Busy: too many texts are waiting, or the time was up before one was begun.
            Failed: the model could not go on with one of them.
        """
        queue: asyncio.Queue[Any] = asyncio.Queue()
        number = {choice.job: i for i, choice in enumerate(choices)}
        self._listeners |= dict.fromkeys(number, queue)
        try:
            self.engine.submit(*number)
            for i, choice in enumerate(choices):
                if choice.echo is not None:
                    yield i, Piece(choice.echo)
            while number:
                job, event = await queue.get()
                if (i := number.get(job)) is None:
                    continue  # told before it was cancelled
                piece = _piece(choices[i], event)
                if piece is None:
                    continue
                if piece.end is not None:
                    self._forget(job)
                    del number[job]
                yield i, piece
        finally:
            for job in number:
                self._forget(job)

    def _forget(self, job: Job) -> None:
        self.engine.cancel(job)
        del self._listeners[job]


def _piece(choice: Choice, event: Event) -> Piece | None:
    if isinstance(event, Read):
        choice.cached = event.cached_tokens
        return None
    if isinstance(event, Token):
        return choice.text.push(event)
    if event.reason == "failed":
        raise Failed(event.why)
    if event.reason == "unbegun":
        raise Busy(f"{event.why} before the text was begun; try again later", 503)
    return choice.text.end(Ended(event.reason))
