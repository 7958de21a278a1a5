"""Brings the engine's updates from its thread to the server's event loop."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any

from ..model.language_model import LiquidLanguageModel
from ..ops.native.step import Weights
from .completion_text import CompletionText, TextDelta
from .echo import Echo
from .engine import Busy, Engine
from .jobs import Finished, Job, JobUpdate, PromptRead
from .limits import Limits
from .metrics import ModelMetrics
from .prefixes import Snapshot
from .prompt_scores import PromptScores
from .tokens import Token


@dataclass(eq=False)
class Choice:
    """A completion of a request (`choice` in OpenAI's API).

    Attributes:
        job: what the engine writes.
        text: decodes the tokens.
        echo: the prompt, to be sent first; None to send none.
        cached: tokens of the prompt that came from the prefix cache, once the prompt is read.
    """

    job: Job
    text: CompletionText
    echo: Echo | None = None
    cached: int = 0


MAX_DELIVERIES = 4096
"""Deliveries for a request that may wait for a client that does not read them."""


class Failed(Exception):
    """The model failed."""


class Writer:
    """An engine for callers in one event loop.

    Args:
        model: in evaluation mode.
        limits: of rows, waiting jobs and the prefix cache.
        weights: their type while text is written (`LiquidStep`).
        metrics: count what is reported; None counts nothing.

    Attributes:
        engine: writes the jobs in its own thread.
    """

    def __init__(
        self,
        model: LiquidLanguageModel,
        limits: Limits,
        weights: Weights = "float32",
        metrics: ModelMetrics | None = None,
    ):
        self._loop, self._metrics = asyncio.get_running_loop(), metrics
        self._listeners: dict[Job, asyncio.Queue[tuple[Job, Sequence[JobUpdate]]]] = {}
        self.engine = Engine(
            model,
            lambda events: self._loop.call_soon_threadsafe(self._hand_out, events),
            rows=limits.rows,
            waiting=limits.waiting,
            cache_bytes=limits.cache_bytes,
            weights=weights,
        )

    def _hand_out(self, events: list[tuple[Job, JobUpdate]]) -> None:
        if self._metrics is not None:
            self._metrics.count(events)
        of_jobs: dict[Job, list[JobUpdate]] = {}
        for job, update in events:
            of_jobs.setdefault(job, []).append(update)
        for job, updates in of_jobs.items():
            delivery: Sequence[JobUpdate] = updates
            if (queue := self._listeners.get(job)) is None:
                continue
            if queue.qsize() > MAX_DELIVERIES and not isinstance(updates[-1], Finished):
                self.engine.cancel(job)
                delivery = [Finished("failed", "the client did not read the stream")]
            queue.put_nowait((job, delivery))

    async def write(self, choices: Sequence[Choice]) -> AsyncGenerator[tuple[int, TextDelta], None]:
        """Write all choices; yields (number of the choice, next part of its text) as parts arrive.

        The last part of each choice has an `end`. If the caller stops early, the jobs are cancelled.

        Raises:
            Busy: too many jobs are waiting, or the time was up before the first token.
            Failed: the model failed.
        """
        queue: asyncio.Queue[Any] = asyncio.Queue()
        number = {choice.job: i for i, choice in enumerate(choices)}
        self._listeners |= dict.fromkeys(number, queue)
        try:
            self.engine.submit(*number)
            for i, choice in enumerate(choices):
                if choice.echo is not None and choice.job.prompt_likeliest is None:
                    yield i, TextDelta(choice.echo.text)
            while number:
                job, updates = await queue.get()
                if (i := number.get(job)) is None:
                    continue  # reported before it was cancelled
                for scores in updates:
                    if isinstance(scores, PromptScores) and (echo := choices[i].echo) is not None:
                        yield i, await asyncio.to_thread(echo.scored, job.prompt, scores)
                delta = _delta(choices[i], updates)
                if delta is None:
                    continue
                if delta.end is not None:
                    self._forget(job)
                    del number[job]
                yield i, delta
        finally:
            for job in number:
                self._forget(job)

    async def read(self, job: Job) -> Snapshot:
        """The state after the prompt of a job that reads only; its length counts the tokens of the prompt.

        Raises:
            Busy, Failed: as above.
        """
        queue: asyncio.Queue[Any] = asyncio.Queue()
        self._listeners[job] = queue
        found: Snapshot | None = None
        try:
            self.engine.submit(job)
            while True:
                for update in (await queue.get())[1]:
                    if isinstance(update, Snapshot):
                        found = update
                    elif isinstance(update, Finished):
                        _check(update)
                        assert found is not None
                        return found
        finally:
            self._forget(job)

    def _forget(self, job: Job) -> None:
        self.engine.cancel(job)
        del self._listeners[job]


def _check(end: Finished) -> None:
    """Raise the error of an end that is one."""
    if end.reason == "failed":
        raise Failed(end.why)
    if end.reason == "unbegun":
        raise Busy(f"{end.why} before the first token: try again later", 503)


def _delta(choice: Choice, updates: Sequence[JobUpdate]) -> TextDelta | None:
    """The text of these updates; None if they are not text. Nothing counts after an end."""
    found = []
    for update in updates:
        if isinstance(update, PromptRead):
            choice.cached = update.cached_tokens
        elif isinstance(update, Token):
            found.append(choice.text.push(update))
        elif isinstance(update, Finished):
            _check(update)
            found.append(choice.text.end(Finished(update.reason)))
        if found and found[-1].end is not None:
            break
    return TextDelta.joined(found) if found else None
