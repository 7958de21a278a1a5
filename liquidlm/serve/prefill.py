"""Prefill: reading a prompt into a state, block by block."""

import torch
from jaxtyping import Float
from torch import Tensor

from ..model.language_model import LiquidLanguageModel
from ..model.step import LiquidStep
from ..nn.state import LiquidCache
from .jobs import Job
from .prefixes import BLOCK, PrefixCache, Snapshot


class Prefill:
    """Reads a job's prompt block by block, from the longest prefix in the cache on.

    Args:
        job: with the prompt.
        model: gives a new state.
        prefixes: the prefix cache.
        step: the model's, which does it.

    Attributes:
        state: after the tokens read so far, one row.
        cached: number of tokens that came from the cache.
        features: input of the time head after the last token, once the prompt is read; None without one.
    """

    def __init__(
        self,
        job: Job,
        model: LiquidLanguageModel,
        prefixes: PrefixCache,
        step: LiquidStep,
    ):
        self.job, self.prefixes = job, prefixes
        self.features: Tensor | None = None
        if (found := prefixes.longest(job.prompt)) is None:
            self.state, self._done = model.new_state(), 0
            self._logits = None
        else:
            self.state, self._done = LiquidCache.of_states(found.states, found.length), found.length
            self._logits, self.features = found.logits, found.features
        self._step, self.cached = step, self._done

    @property
    def logits(self) -> Float[Tensor, "1 v"]:
        """Logits of the token after the prompt, once the prompt is read."""
        assert self._logits is not None, "the prompt is not read to its end"
        return self._logits

    def go_on(self) -> bool:
        """Read the next block; returns whether another is left."""
        prompt, total = self.job.prompt, len(self.job.prompt.ids)
        if self._done == total:
            return False
        part = slice(self._done, min((self._done // BLOCK + 1) * BLOCK, total))
        times = None
        if prompt.times is not None:
            times = torch.from_numpy(prompt.times[part])[None]
        ids = torch.from_numpy(prompt.ids[part])[None].to(self._step.table.device)
        logits, features = self._step.read_events(ids, self.state, times)
        self._done = part.stop
        if self._done == total:
            self._logits = logits[:, -1].float()
            self.features = None if features is None else features[:, -1]
        states = [state for state in self.state.states() if state is not None]
        for key in prompt.keys(self._done):
            of_next = (self._logits, self.features) if key == prompt.end_key else (None, None)
            self.prefixes.keep(key, Snapshot(self._done, states, *of_next))
        return self._done < total
