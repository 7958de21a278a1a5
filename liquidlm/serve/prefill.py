"""Prefill: reading a prompt into a state, block by block."""

import torch
from jaxtyping import Float
from torch import Tensor

from ..inference.generate import suppressed
from ..model.language_model import LiquidLanguageModel
from ..model.step import LiquidStep
from ..nn.state import LiquidCache
from .jobs import Job
from .prefixes import BLOCK, PrefixCache, Snapshot
from .prompt_scores import PromptScores


class Prefill:
    """Reads a prompt block by block, from the longest prefix in the cache on, for every job that has it.

    Args:
        job: the first job with the prompt.
        model: gives a new state.
        prefixes: the prefix cache.
        step: the model's, which does it.

    Attributes:
        prompt: the prompt.
        jobs: those that wait for it.
        state: after the tokens read so far, one row.
        cached: number of tokens that came from the cache.
        features: input of the time head after the last token, once the prompt is read; None without one.
        scores: the probabilities of the prompt's tokens; None if the jobs do not ask for them.
    """

    def __init__(
        self,
        job: Job,
        model: LiquidLanguageModel,
        prefixes: PrefixCache,
        step: LiquidStep,
    ):
        self.prompt, self.jobs, self.prefixes = job.prompt, [job], prefixes
        self.state, self._done, self.cached = model.new_state(), 0, 0
        self._logits: Tensor | None = None
        self.features: Tensor | None = None
        self._step, self._given, self.scores = step, job.read, job.scores
        if job.prompt_likeliest is not None and self.scores is None:
            self.scores = PromptScores(self.prompt.ids, job.prompt_likeliest, suppressed(model))
        if self.prompt.base is not None:
            before = self.prompt.base.snapshot
            self._go_on_from(before._replace(length=0))
            if self.scores is not None and before.logits is not None:
                self.scores.add(-1, before.logits)

    def takes(self, job: Job) -> bool:
        """Whether a job has this prompt. Without a cache only jobs of one request share it: else the time of
        an answer would show what others asked."""
        if job.prompt is self.prompt:
            return True
        if job.prompt_likeliest not in (None, self.scores and self.scores.likeliest):
            return False
        same = job.prompt.key(len(job.prompt.ids)) == self.prompt.key(len(self.prompt.ids))
        return same and self.prefixes.limit_bytes > 0

    @property
    def logits(self) -> Float[Tensor, "1 v"]:
        """Logits of the token after the prompt, once the prompt is read."""
        assert self._logits is not None, "the prompt is not read to its end"
        return self._logits

    @property
    def snapshot(self) -> Snapshot:
        """The state after the tokens read so far; it shares its tensors."""
        states = [state for state in self.state.states() if state is not None]
        return Snapshot(self._done, states, self._logits, self.features)

    def go_on(self) -> bool:
        """Read the next block; returns whether another is left."""
        prompt, total = self.prompt, len(self.prompt.ids)
        # Again at every block: another prompt with this beginning may be read at the same time.
        found = self._given
        if found is None and self.scores is None:  # a stored state has no probabilities of the tokens before
            found = self.prefixes.longest(prompt, self._done)
        if found is not None:
            self._go_on_from(found)
        if self._done == total:
            return False
        part = slice(self._done, min((self._done // BLOCK + 1) * BLOCK, total))
        times = None
        if prompt.times is not None:
            times = torch.from_numpy(prompt.times[part])[None]
        ids = torch.from_numpy(prompt.ids[part])[None].to(self._step.table.device)
        every = self.scores is not None
        logits, features = self._step.read_events(ids, self.state, times, every=every)
        if self.scores is not None:
            self.scores.add(self._done, logits[0])
        self._done = part.stop
        if self._done == total:
            self._logits = logits[:, -1].float()
            self.features = None if features is None else features[:, -1]
        if prompt.is_kept(self._done):
            self.prefixes.keep(prompt, self.snapshot)
        return self._done < total

    def _go_on_from(self, found: Snapshot) -> None:
        self._given = None
        self.cached += found.length - self._done
        self.state = LiquidCache.of_states(found.states, self.prompt.before + found.length)
        self._done = found.length
        if found.length == len(self.prompt.ids):
            self._logits, self.features = found.logits, found.features
