"""The probabilities of a prompt's own tokens, collected while it is read."""

from collections.abc import Collection
from math import isfinite

import numpy as np
from jaxtyping import Float, Int64
from torch import Tensor, from_numpy

from ..errors import LiquidError
from .tokens import Token


class PromptScores:
    """ln of the probability of each token of a prompt, given the tokens before it.

    >>> import torch
    >>> scores = PromptScores(np.array([0, 2, 1]), 1)
    >>> scores.add(0, torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [0.0, 0.0, 0.0]]))
    >>> [round(token.logprob, 2) for token in scores.tokens(1)]
    [-0.41, -1.41]

    Args:
        ids: the tokens.
        likeliest: how many of the likeliest tokens to collect with each.
        suppressed: ids that are never among the likeliest.
    """

    def __init__(self, ids: Int64[np.ndarray, " t"], likeliest: int, suppressed: Collection[int] = ()):
        self.ids, self.likeliest, self._suppressed = ids, likeliest, sorted(suppressed)
        self._logprobs = np.full(len(ids), np.nan, np.float32)
        self._top_ids = np.zeros((len(ids), likeliest), np.int32)
        self._top = np.zeros((len(ids), likeliest), np.float32)

    def add(self, first: int, logits: Float[Tensor, "n v"]) -> None:
        """Take the logits after the tokens `first`, `first` + 1, …; those after token t are of token t + 1.

        Raises:
            LiquidError: the probability of a token is not finite.
        """
        rows = slice(first + 1, min(first + 1 + len(logits), len(self.ids)))
        logits = logits[: rows.stop - rows.start].float()
        if not len(logits):
            return
        total = logits.logsumexp(-1, keepdim=True)
        ids = from_numpy(self.ids[rows]).to(logits.device)
        own = (logits.gather(-1, ids[:, None]) - total)[:, 0].cpu()
        if not own.isfinite().all():
            raise LiquidError("the model's output for this text is not finite")
        self._logprobs[rows] = own.numpy()
        if self.likeliest:
            if self._suppressed:
                logits = logits.clone()
                logits[:, self._suppressed] = -float("inf")
            top, top_ids = logits.topk(min(self.likeliest, logits.shape[-1]), -1)
            self._top[rows, : top.shape[-1]] = (top - total).cpu().numpy()
            self._top_ids[rows, : top.shape[-1]] = top_ids.cpu().numpy()
            self._top[rows, top.shape[-1] :] = -np.inf

    def tokens(self, first: int) -> list[Token]:
        """The tokens from `first` on. A token with nothing before it has no probability."""
        logprobs, tops, top_ids = self._logprobs.tolist(), self._top.tolist(), self._top_ids.tolist()
        return [
            Token(
                int(self.ids[i]),
                logprobs[i],
                tuple(pair for pair in zip(top_ids[i], tops[i], strict=True) if isfinite(pair[1])),
            )
            if isfinite(logprobs[i])
            else Token(int(self.ids[i]))
            for i in range(first, len(self.ids))
        ]
