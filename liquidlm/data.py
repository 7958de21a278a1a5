"""Documents ▶ one stream of tokens ▶ batches of B rows that go on where they ended; resumable."""

import math
import random
import zlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Int32, Int64, Integer
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
    def encode_all(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The ids of each text, without `<s>` and `</s>`."""
        ...


@runtime_checkable
class Tokens(Protocol):
    """Ids in memory, or in a file: what of a numpy array is needed."""

    @property
    def size(self) -> int: ...
    def __getitem__(self, part: slice) -> Integer[np.ndarray, " n"]: ...


@dataclass(frozen=True)
class TokenCorpus:
    """Documents end to end, each ``<s> … </s>``.

    Attributes:
        tokens: ids of all documents.
        starts: where in `tokens` each document's ``<s>`` is; the first is 0.
        text_bytes: UTF-8 bytes of the text, the denominator of bits per byte.
    """

    tokens: Int32[np.ndarray, " tokens"] | Tokens
    starts: Int64[np.ndarray, " documents"]
    text_bytes: int

    @cached_property
    def checksum(self) -> int:
        """Of the tokens: which text under which tokenizer this is."""
        total = 0
        for begin in range(0, self.tokens.size, 1 << 20):
            total = zlib.crc32(self.tokens[begin : begin + (1 << 20)].astype(np.int32).tobytes(), total)
        return total

    @property
    def size(self) -> int:
        return self.tokens.size

    def ring(self, epoch: int) -> "TokenCorpus":
        """What an epoch reads: always the documents in their order."""
        return self

    def window(self, begin: int, count: int) -> tuple[Int64[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
        """`count` tokens from `begin` on, of the corpus as a ring, and which of them are starts."""
        begin %= self.tokens.size
        end = begin + count
        ids = self.tokens[begin:end].astype(np.int64)
        is_start = np.zeros(len(ids), dtype=bool)
        first, last = np.searchsorted(self.starts, (begin, end))
        is_start[self.starts[first:last] - begin] = True
        if len(ids) == count:
            return ids, is_start
        rest = self.window(0, count - len(ids))
        return np.concatenate([ids, rest[0]]), np.concatenate([is_start, rest[1]])


class Weighted:
    """A corpus whose documents are told more or less often, in another order in every epoch.

    A document of weight w comes ⌊w⌋ times, and once more with probability w − ⌊w⌋, drawn anew in every epoch.
    """

    def __init__(self, corpus: TokenCorpus, weights: Sequence[int | float], seed: int = 0):
        if len(weights) != len(corpus.starts):
            raise LiquidError(f"{len(weights)} weights for {len(corpus.starts)} documents")
        if not all(0 <= weight < math.inf for weight in weights) or not any(weights):
            raise LiquidError("weights must be at least 0 and finite, and one of them over 0")
        self.corpus, self.weights, self.seed = corpus, np.asarray(weights, np.float64), seed
        self.size, self.text_bytes = corpus.size, corpus.text_bytes

    @property
    def checksum(self) -> int:
        return zlib.crc32(self.weights.tobytes(), self.corpus.checksum)

    def ring(self, epoch: int) -> "Retold":
        draw = np.random.default_rng([self.seed, epoch])
        times = np.floor(self.weights + draw.random(len(self.weights))).astype(np.int64)
        return Retold(self.corpus, draw.permutation(np.repeat(np.arange(len(times)), times)))


class Retold:
    """Documents of a corpus in a given order, as a ring of tokens."""

    def __init__(self, corpus: TokenCorpus, order: Int64[np.ndarray, " documents"]):
        lengths = np.diff(corpus.starts, append=corpus.tokens.size)[order]
        self.corpus, self.ends, self.size = corpus, lengths.cumsum(), int(lengths.sum())
        self.shift = corpus.starts[order] - (self.ends - lengths)
        """From a place in the ring to one in the corpus, per document."""

    def window(self, begin: int, count: int) -> tuple[Int64[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
        """As `TokenCorpus.window`, in this order."""
        found, begin = [], begin % self.size
        number = int(np.searchsorted(self.ends, begin, "right"))
        while count:
            taken = min(int(self.ends[number]) - begin, count)  # of this document
            found.append(self.corpus.window(int(self.shift[number]) + begin, taken))
            begin, count, number = (begin + taken) % self.size, count - taken, (number + 1) % len(self.ends)
        ids, starts = zip(*found, strict=True)
        return np.concatenate(ids), np.concatenate(starts)


class TokenSink:
    """Takes tokens as they are made.

    Args:
        keep: told each run of ids, in order.
    """

    def __init__(self, keep: Callable[[Int32[np.ndarray, " n"]], object]):
        self.keep, self.size, self.starts, self.text_bytes = keep, 0, array("q"), 0

    def add(self, documents: Iterable[Document], tokenizer: Encoder) -> None:
        """All of `documents`, of which parts that continue one another are one document."""
        bos, eos = (np.array([i], np.int32) for i in (tokenizer.bos_token_id, tokenizer.eos_token_id))
        for group in _groups(documents):
            for document, ids in zip(group, tokenizer.encode_all([d.text for d in group]), strict=True):
                if not document.continues:
                    self._put(*((eos,) if self.starts else ()))
                    self.starts.append(self.size)
                    self._put(bos)
                self._put(ids)
                self.text_bytes += len(document.text.encode())
        if not self.starts:
            raise LiquidError("there is no document to tokenize; give at least one text")
        self._put(eos)

    def _put(self, *runs: Int32[np.ndarray, " n"]) -> None:
        for ids in runs:
            self.keep(ids)
            self.size += len(ids)


def _groups(documents: Iterable[Document], size: int = 1 << 20) -> Iterator[list[Document]]:
    """Documents in groups of at least `size` characters, which are tokenized in parallel."""
    group, characters = [], 0
    for document in documents:
        group.append(document)
        characters += len(document.text)
        if characters >= size:
            yield group
            group, characters = [], 0
    if group:
        yield group


def tokenize_documents(documents: Iterable[Document], tokenizer: Encoder) -> TokenCorpus:
    """The corpus of `documents`, in their order, in memory; LiquidError when there are none."""
    runs: list[np.ndarray] = []
    sink = TokenSink(runs.append)
    sink.add(documents, tokenizer)
    return TokenCorpus(
        np.concatenate(runs).astype(np.int32), np.array(sink.starts, np.int64), sink.text_bytes
    )


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

    The corpus of N tokens is read as a ring, in an epoch's own order if it is `Weighted`. In an epoch row r
    reads on from (offset + r·⌊N/B⌋) mod N, a window of T tokens per batch: each batch continues every row
    exactly where the one before ended. After ⌊N/(B·T)⌋ batches a new epoch begins: the offset, 0 in the first
    epoch, is drawn from (seed, epoch), so that rows and windows are cut elsewhere. At this jump, and in the
    very first batch, the first token of every row is marked as a start: the carried state is not that of the
    text before it.

    An epoch takes each token as an input once, save the N − B·T·⌊N/(B·T)⌋ < B·T tokens that are left over at
    the ends of the rows' shares, which fall elsewhere in every epoch.

    Attributes:
        epoch: how many epochs are complete.
        batches_per_epoch: ⌊N/(B·T)⌋, of this epoch.

    Raises:
        LiquidError: a batch_size or length below 1, or a corpus with fewer than B·T + 1 tokens.
    """

    def __init__(self, corpus: TokenCorpus | Weighted, batch_size: int, length: int, seed: int = 0):
        if batch_size < 1 or length < 1:
            raise LiquidError(f"batch_size and length must be at least 1, not {batch_size} and {length}")
        self.corpus, self.batch_size, self.length, self.seed = corpus, batch_size, length, seed
        self._begin(0)

    def _begin(self, epoch: int, batch: int = 0) -> None:
        """Stand before this batch of this epoch."""
        ring, needed = self.corpus.ring(epoch), self.batch_size * self.length + 1
        if ring.size < needed:
            raise LiquidError(
                f"the text has {ring.size} tokens, but a batch of {self.batch_size} × {self.length} needs"
                f" {needed}: choose a shorter context (--context) or a smaller batch, or give more text"
            )
        self.epoch, self._batch, self._ring = epoch, batch, ring
        self.batches_per_epoch = ring.size // (self.batch_size * self.length)

    def next_batch(self) -> Batch:
        """The batch that continues the one before."""
        begin, share = self._offset() + self._batch * self.length, self._ring.size // self.batch_size
        rows = [self._ring.window(begin + row * share, self.length + 1) for row in range(self.batch_size)]
        ids, starts = (np.stack(part) for part in zip(*rows, strict=True))
        targets = np.where(starts[:, 1:], IGNORED, ids[:, 1:])
        if self._batch == 0:
            starts[:, 0] = True
        self._batch += 1
        if self._batch == self.batches_per_epoch:
            self._begin(self.epoch + 1)
        return Batch(*map(torch.from_numpy, (ids[:, :-1], targets, starts[:, :-1])))

    def _offset(self) -> int:
        """Where row 0 begins in this epoch."""
        if self.epoch == 0:
            return 0
        return random.Random(f"{self.seed} {self.epoch}").randrange(self._ring.size)

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
        self._begin(state["epoch"], state["batch"])

    def _identity(self) -> dict[str, int]:
        return {
            "tokens": self.corpus.size,
            "checksum": self.corpus.checksum,
            "batch_size": self.batch_size,
            "length": self.length,
            "seed": self.seed,
        }
