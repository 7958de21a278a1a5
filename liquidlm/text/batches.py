"""A token corpus ▶ endless batches: each row continues where it ended in the batch before."""

import random
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Int64, Num
from torch import Tensor

from ..errors import LiquidError
from .token_corpus import TokenCorpus
from .weighting import WeightedCorpus

IGNORED = -100
"""The target that cross-entropy leaves out."""


@dataclass(frozen=True)
class Batch:
    """B windows of T tokens.

    Attributes:
        input_ids: the tokens.
        targets: the token after each; −100 where that is the ``<s>`` of the next document.
        starts: true where the state is reset: at a document's ``<s>``, and where a row jumps.
        times: the time of each token in seconds, if the text has times.
        next_times: the time of the token after each, if the text has times.
    """

    input_ids: Int64[Tensor, "b t"]
    targets: Int64[Tensor, "b t"]
    starts: Bool[Tensor, "b t"]
    times: Num[Tensor, "b t"] | None = None
    next_times: Num[Tensor, "b t"] | None = None


class StreamBatches:
    """Endless batches for truncated back-propagation through time with a carried state.

    The corpus of N tokens is read as a ring; a `WeightedCorpus` has a new order in every epoch. In an epoch,
    row r reads on from (offset + r·⌊N/B⌋) mod N, one window of T tokens per batch. So each batch continues
    every row exactly where the batch before ended. After ⌊N/(B·T)⌋ batches a new epoch begins with a new
    offset: 0 in the first epoch, then drawn from (seed, epoch), so that rows and windows are cut at other
    places. In the first batch of an epoch, the first token of every row is marked as a start: the carried
    state belongs to another text.

    An epoch reads each token once, except the N − B·T·⌊N/(B·T)⌋ < B·T tokens at the ends of the rows' shares.
    These are others in every epoch.

    Args:
        corpus: the tokens.
        batch_size: B, the number of rows.
        length: T, tokens per row and batch.
        seed: of the offsets.

    Attributes:
        epoch: the number of complete epochs.
        batches_per_epoch: ⌊N/(B·T)⌋ of this epoch.

    Raises:
        LiquidError: `batch_size` or `length` is under 1, or the corpus has fewer than B·T + 1 tokens.
    """

    def __init__(self, corpus: TokenCorpus | WeightedCorpus, batch_size: int, length: int, seed: int = 0):
        if batch_size < 1 or length < 1:
            raise LiquidError(f"batch_size and length must be at least 1, not {batch_size} and {length}")
        self.corpus, self.batch_size, self.length, self.seed = corpus, batch_size, length, seed
        self._begin(0)

    def _begin(self, epoch: int, batch: int = 0) -> None:
        """Go to the position before this batch of this epoch."""
        needed = self.batch_size * self.length + 1
        ring = self.corpus.ring(epoch, needed)
        if ring.size < needed:
            raise LiquidError(
                f"the text has {ring.size} tokens, but a batch of {self.batch_size} × {self.length} needs"
                f" {needed}: choose a shorter context (--context) or a smaller batch, or give more text"
            )
        self.epoch, self._batch, self._ring = epoch, batch, ring
        self.batches_per_epoch = ring.size // (self.batch_size * self.length)

    @property
    def passes(self) -> float:
        """How many epochs were read, with the fraction of the present one."""
        return self.epoch + self._batch / self.batches_per_epoch

    def next_batch(self) -> Batch:
        """The batch that continues the one before."""
        begin, share = self._offset() + self._batch * self.length, self._ring.size // self.batch_size
        rows = [self._ring.window(begin + row * share, self.length + 1) for row in range(self.batch_size)]
        ids, starts = np.stack([row.ids for row in rows]), np.stack([row.starts for row in rows])
        times = [row.times for row in rows if row.times is not None]
        clock = torch.from_numpy(np.stack(times)) if times else None
        targets = np.where(starts[:, 1:], IGNORED, ids[:, 1:])
        if self._batch == 0:
            starts[:, 0] = True
        self._batch += 1
        if self._batch == self.batches_per_epoch:
            self._begin(self.epoch + 1)
        batch = Batch(*map(torch.from_numpy, (ids[:, :-1], targets, starts[:, :-1])))
        return batch if clock is None else replace(batch, times=clock[:, :-1], next_times=clock[:, 1:])

    def _offset(self) -> int:
        """The position in the ring where row 0 begins in this epoch."""
        if self.epoch == 0:
            return 0
        return random.Random(f"{self.seed} {self.epoch}").randrange(self._ring.size)

    def state_dict(self) -> dict[str, int]:
        """The position in the stream, and what identifies the stream: a few integers, fit for JSON."""
        return {**self._identity(), "epoch": self.epoch, "batch": self._batch}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue exactly at the position of `state`.

        Raises:
            LiquidError: `state` is from another corpus, batch size, length or seed.
        """
        for name, value in self._identity().items():
            if state.get(name) != value:
                raise LiquidError(
                    f"cannot resume: {name} was {state.get(name)} when the run was saved and is {value} now;"
                    " resume with the same text, tokenizer and sizes, or start a new run"
                )
        self._begin(state["epoch"], state["batch"])

    def _identity(self) -> dict[str, int]:
        return {
            "tokens": self.corpus.size,
            "checksum": self.corpus.checksum,
            "batch_size": self.batch_size,
            "length": self.length,
            "seed": self.seed,
        }
