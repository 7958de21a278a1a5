"""Many texts at a time by one model: continuous batching.

A text is a row of the model's state, constant in size, so that a batch is any set of rows: one joins when its
prompt is read and leaves when its text ends, between two steps of the others. Prompts are read a piece at a
time, in turn, a step of the rows between two pieces, so that a long prompt holds up nobody for long.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import torch

from ..errors import LiquidError, first_line
from ..inference.generate import suppressed
from ..model.folded import FoldedEmbedding
from ..model.language_model import LiquidTextGenerationModel
from ..model.step import LiquidStep
from .batch import Batch, Row
from .jobs import Ended, Event, Job, Read
from .prefixes import PrefixCache
from .reading import Reading


class Busy(LiquidError):
    """Nothing more is taken on now; `status` is HTTP's word for why."""

    def __init__(self, message: str, status: int = 429):
        super().__init__(message)
        self.status = status


class Engine:
    """Writes jobs in a thread of its own, and hands what comes of them to `deliver`.

    Args:
        deliver: called from that thread, with what one step brought, in order.
        rows: texts at a time.
        waiting: texts that may wait beside them.
        cache_bytes: for states of prompts that were read.
    """

    def __init__(
        self,
        model: LiquidTextGenerationModel,
        deliver: Callable[[list[tuple[Job, Event]]], object],
        *,
        rows: int = 32,
        waiting: int = 256,
        cache_bytes: int = 1 << 28,
    ):
        self.model, self.deliver, self.rows, self.waiting = model, deliver, rows, waiting
        self.prefixes = PrefixCache(cache_bytes)
        self._table = FoldedEmbedding(model)
        self._changed = threading.Condition()
        self._queue: deque[Job] = deque()
        self._step = LiquidStep(model, self._table.rows())
        self._readings: deque[Reading] = deque()
        self._batch = Batch(self._step)
        self._closing, self._end = False, math.inf
        self._events: list[tuple[Job, Event]] = []
        self._thread = threading.Thread(target=self._run, name="liquidlm engine", daemon=True)
        self._thread.start()

    def submit(self, *jobs: Job) -> None:
        """Write these when there is room.

        Raises:
            Busy: they would be more than may wait; none of them is taken.
        """
        with self._changed:
            if self._closing:
                raise Busy("the server is shutting down", 503)
            if len(self._queue) + len(jobs) > self.waiting:
                raise Busy(f"{len(self._queue)} texts are waiting already; try again later")
            for job in jobs:
                job.deadline = time.monotonic() + job.seconds
            self._queue.extend(jobs)
            self._changed.notify()

    def cancel(self, job: Job) -> None:
        """Nobody waits for it any more: nothing more is told of it."""
        with self._changed:
            job.cancelled = True
            if job in self._queue:
                self._queue.remove(job)

    def load(self) -> dict[str, int]:
        """How many texts are written, and wait, and what is kept of prompts."""
        return {
            "running": len(self._batch.rows) + len(self._readings),
            "waiting": len(self._queue),
            "cached_prefixes": len(self.prefixes),
            "cached_bytes": self.prefixes.nbytes,
        }

    def stop(self, seconds: float) -> None:
        """Take no more, and cut off what has not ended in so many seconds."""
        with self._changed:
            self._closing, self._end = True, min(self._end, time.monotonic() + seconds)
            self._changed.notify()

    def close(self) -> None:
        """Stop now, and wait for the thread."""
        self.stop(0.0)
        self._thread.join()

    # ---- in the thread

    def _run(self) -> None:
        with torch.inference_mode():
            while self._wait():
                try:
                    self._admit()
                    self._read()
                    self._write()
                except Exception as error:  # nothing is known to be whole: nobody may wait for it for ever
                    self._fail(Ended("failed", first_line(error)))
                events, self._events = self._events, []
                if events:
                    self.deliver(events)

    def _wait(self) -> bool:
        """Until there is something to do; False when all is done and none will come."""
        with self._changed:
            while not (self._queue or self._readings or self._batch.rows):
                if self._closing:
                    return False
                self._changed.wait()
        return True

    def _admit(self) -> None:
        with self._changed:
            while self._queue and len(self._readings) + len(self._batch.rows) < self.rows:
                job = self._queue.popleft()
                self._readings.append(Reading(job, self.model, self.prefixes, self._table))

    def _read(self) -> None:
        """A piece of the prompt whose turn it is; at its end the text joins those that are written."""
        if not self._readings:
            return
        reading = self._readings.popleft()
        if self._tell_over(reading.job, self._over(reading.job, "unbegun")):
            return
        try:
            if reading.go_on():
                self._readings.append(reading)
                return
            row = Row(reading.job, reading.logits, suppressed(self.model))
            self._tell(reading.job, Read(reading.cached))
            if not self._draw(row, reading.logits, reading.features, float(reading.state.last_time[0])):
                self._batch.join(row, reading.state)
        except Exception as error:  # whatever it is, the others go on
            self._tell(reading.job, Ended("failed", first_line(error)))

    def _write(self) -> None:
        """One token more of every text."""
        batch = self._batch
        batch.leave({row for row in batch.rows if self._tell_over(row.job, self._over(row.job, "length"))})
        if not batch.rows:
            return
        logits, features, last = batch.step()
        of_gaps = [None] * len(last) if features is None else features.split(1)
        each = zip(list(batch.rows), logits.split(1), of_gaps, last, strict=True)
        batch.leave({row for row, *found in each if self._draw(row, *found)})

    def _over(self, job: Job, reason: str) -> Ended | None:
        """Why a text is not to be gone on with, if it is not."""
        if job.cancelled or time.monotonic() > min(job.deadline, self._end):
            return Ended(reason, "the time was up")
        return None

    def _fail(self, ended: Ended) -> None:
        """The end of everything that is begun."""
        begun = [reading.job for reading in self._readings] + [row.job for row in self._batch.rows]
        self._readings.clear()
        self._batch = Batch(self._step)
        for job in begun:
            self._tell(job, ended)

    def _draw(self, row: Row, *found: Any) -> bool:
        """Draw the row's next token and tell; whether it was the last."""
        try:
            token = row.draw(self.model, *found)
        except Exception as error:  # a row's own: its numbers are no probabilities
            return self._tell_over(row.job, Ended("failed", first_line(error)))
        self._tell(row.job, token)
        return self._tell_over(row.job, None if row.ended is None else Ended(row.ended))

    def _tell_over(self, job: Job, over: Ended | None) -> bool:
        """Tell of the end, if it is one; whether it is."""
        if over is not None:
            self._tell(job, over)
        return over is not None

    def _tell(self, job: Job, *events: Event) -> None:
        if not job.cancelled:
            self._events.extend((job, event) for event in events)
