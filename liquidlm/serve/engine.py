"""Many completions at the same time by one model: continuous batching (as in Orca, Yu et al. 2022).

A completion is one row of the model's state, of constant size. A row joins the batch when its prompt is read,
and leaves it when the completion ends, between two steps of the other rows. Prompts are read block by block,
one after the other in turn, with one step of the batch between two blocks. So a long prompt does not block
the others.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import torch

from ..errors import LiquidError, first_line
from ..inference.generate import suppressed
from ..model.language_model import LiquidLanguageModel
from ..model.step import LiquidStep
from ..ops.native.step import Weights
from .batch import Batch, Row, draw_tokens
from .jobs import Finished, Job, JobUpdate, PromptRead
from .prefill import Prefill
from .prefixes import PrefixCache
from .tokens import Token

INTERVAL = 0.02
"""Tokens of this many seconds are delivered together: a delivery costs more than a row of a step."""


class Busy(LiquidError):
    """The server cannot take a job now.

    Attributes:
        status: the HTTP status: 429 if too many jobs wait, 503 if the server stops or the time was up.
    """

    def __init__(self, message: str, status: int = 429):
        super().__init__(message)
        self.status = status


class Engine:
    """Writes jobs in its own thread, and passes their updates to `deliver`.

    Args:
        model: in evaluation mode.
        deliver: called from the engine's thread with the updates of one or more steps, in order. A read
            prompt, its first token and an end are delivered at once, other tokens after about INTERVAL.
        rows: jobs in work at the same time.
        waiting: further jobs that may wait.
        cache_bytes: memory of the prefix cache.
        weights: their type while text is written (`LiquidStep`).

    Attributes:
        prefixes: the prefix cache.
    """

    def __init__(
        self,
        model: LiquidLanguageModel,
        deliver: Callable[[list[tuple[Job, JobUpdate]]], object],
        *,
        rows: int = 32,
        waiting: int = 256,
        cache_bytes: int = 1 << 28,
        weights: Weights = "float32",
    ):
        self.model, self.deliver, self.rows, self.waiting = model, deliver, rows, waiting
        self._step = LiquidStep(model, weights=weights)
        self.prefixes = PrefixCache(cache_bytes, anywhere=self._step.reads_alike)
        self._changed = threading.Condition()
        self._queue: deque[Job] = deque()
        self._prefills: deque[Prefill] = deque()
        self._batch = Batch(self._step)
        self._closing, self._end = False, math.inf
        self._updates: list[tuple[Job, JobUpdate]] = []
        self._due = 0.0
        self._thread = threading.Thread(target=self._run, name="liquidlm engine", daemon=True)
        self._thread.start()

    def submit(self, *jobs: Job) -> None:
        """Add jobs to the queue.

        Raises:
            Busy: too many jobs would wait, or the engine stops. None of the jobs is taken.
        """
        with self._changed:
            if self._closing:
                raise Busy("the server is shutting down", 503)
            if len(self._queue) + len(jobs) > self.waiting + max(0, self.rows - self._running):
                raise Busy(f"{len(self._queue)} completions are waiting already: try again later")
            for job in jobs:
                job.submitted = time.monotonic()
                job.deadline = job.submitted + job.seconds
            self._queue.extend(jobs)
            self._changed.notify()

    def cancel(self, job: Job) -> None:
        """Stop a job. No further update of it is delivered."""
        with self._changed:
            job.cancelled = True
            if job in self._queue:
                self._queue.remove(job)

    @property
    def working(self) -> bool:
        """Whether its thread runs."""
        return self._thread.is_alive()

    def load(self) -> dict[str, int]:
        """Numbers of running and waiting jobs, and the size of the prefix cache."""
        return {
            "running": self._running,
            "waiting": len(self._queue),
            "cached_prefixes": len(self.prefixes),
            "cached_bytes": self.prefixes.nbytes,
        }

    @property
    def _running(self) -> int:
        return len(self._batch.rows) + sum(len(prefill.jobs) for prefill in self._prefills)

    def stop(self, seconds: float) -> None:
        """Take no more jobs, and end those that are still running after `seconds`."""
        with self._changed:
            self._closing, self._end = True, min(self._end, time.monotonic() + seconds)
            self._changed.notify()

    def close(self) -> None:
        """Stop now, and wait for the thread to end."""
        self.stop(0.0)
        self._thread.join()

    # ---- in the engine's thread

    def _run(self) -> None:
        with torch.inference_mode():
            while self._wait():
                try:
                    self._admit()
                    self._read()
                    self._write()
                except (
                    Exception
                ) as error:  # the state may be broken: end all jobs, so that no client waits forever
                    self._fail(Finished("failed", first_line(error)))
                self._deliver()

    def _deliver(self) -> None:
        """Deliver what was reported, if it is time."""
        now = time.monotonic()
        if self._updates and now >= self._due:
            updates, self._updates, self._due = self._updates, [], now + INTERVAL
            self.deliver(updates)

    def _wait(self) -> bool:
        """Wait for a job; False if the engine stops and all jobs are done."""
        with self._changed:
            while not (self._queue or self._prefills or self._batch.rows):
                if self._closing:
                    return False
                self._changed.wait()
        return True

    def _admit(self) -> None:
        with self._changed:
            while self._queue and self._running < self.rows:
                job = self._queue.popleft()
                try:
                    self._take(job)
                except Exception as error:  # no job is lost: its client waits for an end
                    self._report(job, Finished("failed", first_line(error)))

    def _take(self, job: Job) -> None:
        """Read the prompt of a job, or wait with others for a prompt that is read already."""
        same = next((prefill for prefill in self._prefills if prefill.takes(job)), None)
        if same is None:
            self._prefills.append(Prefill(job, self.model, self.prefixes, self._step))
        else:
            same.jobs.append(job)

    def _read(self) -> None:
        """Read the next block of one prompt. After its last block its jobs join the batch."""
        if not self._prefills:
            return
        prefill = self._prefills.popleft()
        prefill.jobs = [job for job in prefill.jobs if not self._report_end(job, self._over(job, "unbegun"))]
        if not prefill.jobs:
            return
        try:
            more = prefill.go_on()
        except Exception as error:  # an error of this prompt; the other jobs go on
            for job in prefill.jobs:
                self._report(job, Finished("failed", first_line(error)))
            return
        if more:
            self._prefills.append(prefill)
        else:
            self._begin(prefill)

    def _begin(self, prefill: Prefill) -> None:
        """Draw the first token of every job of a prompt that is read."""
        for number, job in enumerate(prefill.jobs):
            try:
                read = PromptRead(job.prompt.length if number else job.prompt.before + prefill.cached)
                self._report(job, read)
                if job.reads_only:
                    self._report(job, prefill.snapshot.owned(), Finished("stop"))
                    continue
                if job.prompt_likeliest is not None and prefill.scores is not None:
                    self._report(job, prefill.scores)
                if not job.max_new_tokens:
                    self._report(job, Finished("length"))
                    continue
                row = Row(job, prefill.logits, suppressed(self.model))
                last = [float(prefill.state.last_time[0])]
                if not self._draw([row], prefill.logits, prefill.features, last):
                    self._batch.join(row, prefill.state)
            except Exception as error:
                self._report(job, Finished("failed", first_line(error)))
        with self._changed:  # jobs of the same request that found no free row
            for job in self._queue:
                if job.prompt is prefill.prompt:
                    job.read, job.scores = prefill.snapshot, prefill.scores

    def _write(self) -> None:
        """Write one token of every row."""
        batch = self._batch
        over = {row for row in batch.rows if self._report_end(row.job, self._over(row.job, "length"))}
        self._leave(over)
        if not batch.rows:
            return
        logits, features, times = batch.step()
        self._leave(self._draw(batch.rows, logits, features, times), logits, features)

    def _leave(self, gone: set[Row], *of_next: Any) -> None:
        """Remove rows, and keep their states: a text is often gone on with."""
        if self.prefixes.anywhere and self.prefixes.limit_bytes:
            for row in gone:
                if row.job.prompt.times is None and row.read:  # times are not printed to the last digit
                    text = row.job.prompt.extended(row.read)
                    for snapshot in (*row.marks, self._batch.snapshot(row, *of_next)):
                        self.prefixes.keep(text, snapshot)
        self._batch.leave(gone)

    def _over(self, job: Job, reason: str) -> Finished | None:
        """Why a job must end now; None if it goes on."""
        if job.cancelled or time.monotonic() > min(job.deadline, self._end):
            return Finished(reason, "the time was up")
        return None

    def _fail(self, ended: Finished) -> None:
        """End all jobs in work."""
        begun = [job for prefill in self._prefills for job in prefill.jobs]
        begun += [row.job for row in self._batch.rows]
        self._prefills.clear()
        self._batch = Batch(self._step)
        for job in begun:
            self._report(job, ended)

    def _draw(self, rows: Sequence[Row], *found: Any) -> set[Row]:
        """Draw the next token of every row and report it; returns the rows that have ended."""
        ended = set()
        for row, token in zip(rows, draw_tokens(rows, self.model, *found), strict=True):
            if token is None:
                over = Finished("failed", "the model's output for this text is not finite")
            else:
                self._report(row.job, token)
                over = None if row.ended is None else Finished(row.ended)
            if self._report_end(row.job, over):
                ended.add(row)
        return ended

    def _report_end(self, job: Job, over: Finished | None) -> bool:
        """Report the end if there is one; returns whether there is."""
        if over is not None:
            self._report(job, over)
        return over is not None

    def _report(self, job: Job, *updates: JobUpdate) -> None:
        if job.cancelled:
            return
        self._updates.extend((job, update) for update in updates)
        if not all(isinstance(update, Token) for update in updates):
            self._due = 0.0
