"""Documents ▶ one stream of tokens ▶ batches of B rows that go on where they ended; resumable."""

import random
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Int32, Int64
from torch import Tensor

from liquidlm.corpus import Document
from liquidlm.errors import LiquidError

IGNORED = -100  # the target that torch's cross-entropy leaves out


@runtime_checkable
class Encoder(Protocol):
    """What is needed of a tokenizer: LEDTokenizerWrapper has it."""

    @property
    def bos_token_id(self) -> int: ...
    @property
    def eos_token_id(self) -> int: ...
    def encode(self, text: str) -> np.ndarray:
        """The ids of a text, without `<s>` and `</s>`."""
        ...


@dataclass(frozen=True)
class TokenCorpus:
    """Documents end to end, each ``<s> … </s>``.

    Attributes:
        tokens: ids of all documents.
        starts: where in `tokens` each document's ``<s>`` is; the first is 0.
        text_bytes: UTF-8 bytes of the text, the denominator of bits per byte.
    """

    tokens: Int32[np.ndarray, " tokens"]
    starts: Int64[np.ndarray, " documents"]
    text_bytes: int


def tokenize_documents(documents: Iterable[Document], tokenizer: Encoder) -> TokenCorpus:
    """The corpus of `documents`, in their order; LiquidError when there are none."""
    pieces: list[np.ndarray] = []
    text_bytes = 0
    for document in documents:
        ids = tokenizer.encode(document.text)
        pieces.append(
            np.concatenate([[tokenizer.bos_token_id], ids, [tokenizer.eos_token_id]]).astype(np.int32)
        )
        text_bytes += len(document.text.encode())
    if not pieces:
        raise LiquidError("there is no document to tokenize; give at least one text")
    ends = np.cumsum([len(piece) for piece in pieces], dtype=np.int64)
    return TokenCorpus(np.concatenate(pieces), np.concatenate([np.zeros(1, np.int64), ends[:-1]]), text_bytes)


@dataclass(frozen=True)
class Batch:
    """B windows of T tokens.

    Attributes:
        input_ids: the tokens.
        targets: the token after each; −100 where that is the ``<s>`` of another document.
        starts: true where the state must begin anew: at a document's ``<s>``, and where a row has jumped.
    """

    input_ids: Int64[Tensor, "b t"]
    targets: Int64[Tensor, "b t"]
    starts: Bool[Tensor, "b t"]


class StreamBatches:
    """Endless batches for truncated back-propagation through time, with the state carried over.

    The corpus of N tokens is read as a ring. In an epoch row r reads on from (offset + r·⌊N/B⌋) mod N, a
    window of T tokens per batch: each batch continues every row exactly where the one before ended. After
    ⌊N/(B·T)⌋ batches a new epoch begins: the offset, 0 in the first epoch, is drawn from (seed, epoch), so
    that rows and windows are cut elsewhere. At this jump, and in the very first batch, the first token of
    every row is marked as a start: the carried state is not that of the text before it.

    An epoch takes each token as an input once, save the N − B·T·⌊N/(B·T)⌋ < B·T tokens that are left over at
    the ends of the rows' shares, which fall elsewhere in every epoch.

    Attributes:
        epoch: how many epochs are complete.
        batches_per_epoch: ⌊N/(B·T)⌋.

    Raises:
        LiquidError: a batch_size or length below 1, or a corpus with fewer than B·T + 1 tokens.
    """

    def __init__(self, corpus: TokenCorpus, batch_size: int, length: int, seed: int = 0):
        if batch_size < 1 or length < 1:
            raise LiquidError(f"batch_size and length must be at least 1, not {batch_size} and {length}")
        tokens, needed = corpus.tokens.size, batch_size * length + 1
        if tokens < needed:
            raise LiquidError(
                f"the text has {tokens} tokens, but a batch of {batch_size} × {length} needs {needed}:"
                " choose a shorter context (--context) or a smaller batch, or give more text"
            )
        self.corpus, self.batch_size, self.length, self.seed = corpus, batch_size, length, seed
        self.batches_per_epoch = tokens // (batch_size * length)
        self.epoch = 0
        self._batch = 0  # the next one of the epoch
        self._is_start = np.zeros(tokens, dtype=bool)
        self._is_start[corpus.starts] = True

    def next_batch(self) -> Batch:
        """The batch that continues the one before."""
        tokens = self.corpus.tokens
        rows = self._offset() + tokens.size // self.batch_size * np.arange(self.batch_size)
        window = self._batch * self.length + np.arange(self.length + 1)
        positions = (rows[:, None] + window) % tokens.size
        ids = tokens[positions].astype(np.int64)
        starts = self._is_start[positions]

        targets = np.where(starts[:, 1:], IGNORED, ids[:, 1:])
        if self._batch == 0:
            starts[:, 0] = True
        self._batch += 1
        if self._batch == self.batches_per_epoch:
            self.epoch, self._batch = self.epoch + 1, 0
        return Batch(*map(torch.from_numpy, (ids[:, :-1], targets, starts[:, :-1])))

    def _offset(self) -> int:
        """Where row 0 begins in this epoch."""
        if self.epoch == 0:
            return 0
        return random.Random(f"{self.seed} {self.epoch}").randrange(self.corpus.tokens.size)

    def state_dict(self) -> dict[str, int]:
        """Where the stream stands, and what it runs over: a few integers, fit for JSON."""
        return {**self._identity(), "epoch": self.epoch, "batch": self._batch}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on exactly where `state` was taken; LiquidError if it is of another corpus or another shape."""
        for name, value in self._identity().items():
            if state.get(name) != value:
                raise LiquidError(
                    f"cannot resume: {name} was {state.get(name)} when the run was saved and is {value} now;"
                    " resume with the same text, tokenizer and sizes, or start a new run"
                )
        self.epoch, self._batch = state["epoch"], state["batch"]

    def _identity(self) -> dict[str, int]:
        return {
            "tokens": self.corpus.tokens.size,
            "checksum": zlib.crc32(self.corpus.tokens.tobytes()),
            "batch_size": self.batch_size,
            "length": self.length,
            "seed": self.seed,
        }
