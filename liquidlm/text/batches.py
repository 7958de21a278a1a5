"""Documents ▶ one stream of tokens ▶ batches of B rows that go on where they ended; resumable."""

import math
import random
import zlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int32, Int64, Integer, Num
from torch import Tensor

from liquidlm.errors import LiquidError
from liquidlm.text.corpus import Document

IGNORED = -100  # the target that torch's cross-entropy leaves out

RESOLUTIONS = (86400.0, 3600.0, 60.0, 1.0, 0.1, 0.01, 0.001)
"""Steps in which clocks are read, in seconds."""
TOLERANCE = 1e-6
"""How far from a multiple of a step a gap may be, in seconds: float64 has 2·10⁻⁷ of those since 1970."""


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


@runtime_checkable
class Times(Protocol):
    """The same of their times."""

    @property
    def size(self) -> int: ...
    def __getitem__(self, part: slice) -> Float64[np.ndarray, " n"]: ...


class Window(NamedTuple):
    """Some tokens in a row: their ids, which of them start a document, their times if they have any."""

    ids: Int64[np.ndarray, " n"]
    starts: Bool[np.ndarray, " n"]
    times: Num[np.ndarray, " n"] | None

    @classmethod
    def joined(cls, windows: Sequence["Window"]) -> "Window":
        """One after the other."""
        ids, starts, times = zip(*windows, strict=True)
        together = None if times[0] is None else np.concatenate(times)
        return cls(np.concatenate(ids), np.concatenate(starts), together)


LARGEST_EPOCH = 1e8
"""Documents, or spans, of an epoch."""


@dataclass(frozen=True)
class TokenCorpus:
    """Documents end to end, each ``<s> … </s>``.

    Attributes:
        tokens: ids of all documents.
        starts: where in `tokens` each document's ``<s>`` is; the first is 0.
        text_bytes: UTF-8 bytes of the text, the denominator of bits per byte.
        times: of each token, in seconds, if the text has times.
        events: how many events it has then.
    """

    tokens: Int32[np.ndarray, " tokens"] | Tokens
    starts: Int64[np.ndarray, " documents"]
    text_bytes: int
    times: Num[np.ndarray, " tokens"] | Times | None = None
    events: int = 0

    @cached_property
    def checksum(self) -> int:
        """Of the tokens: which text under which tokenizer this is."""
        total = 0
        for begin in range(0, self.tokens.size, 1 << 20):
            part = slice(begin, begin + (1 << 20))
            total = zlib.crc32(self.tokens[part].astype(np.int32).tobytes(), total)
            if self.times is not None:
                total = zlib.crc32(self.times[part].tobytes(), total)
        return total

    @cached_property
    def typical_gap(self) -> float:
        """The median of the gaps over 0 between tokens of a document, in seconds; 1 if there is none."""
        return float(np.median(self._gaps)) if self._gaps.size else 1.0

    @cached_property
    def resolution(self) -> float:
        """The steps in which times are recorded: the longest of RESOLUTIONS, in seconds, of which every gap
        is a multiple; 0 if there is none."""
        for step in RESOLUTIONS if self._gaps.size else ():
            multiple = (self._gaps / step).round().clip(min=1) * step
            if bool((np.abs(self._gaps - multiple) < TOLERANCE).all()):
                return step
        return 0.0

    @cached_property
    def _gaps(self) -> Float64[np.ndarray, " n"]:
        """Those over 0 between tokens of a document."""
        if self.times is None:
            return np.empty(0)
        found = []
        for begin in range(0, self.times.size, 1 << 20):
            times = self.times[begin : begin + (1 << 20) + 1]
            gaps, within = np.diff(times), np.ones(max(0, len(times) - 1), dtype=bool)
            first, last = np.searchsorted(self.starts, (begin + 1, begin + len(times)))
            within[self.starts[first:last] - begin - 1] = False
            found.append(gaps[within & (gaps > 0)])
        return np.concatenate(found)

    @property
    def size(self) -> int:
        return self.tokens.size

    def ring(self, epoch: int, least: int = 1) -> "TokenCorpus":
        """What an epoch reads: always the documents in their order."""
        return self

    def window(self, begin: int, count: int) -> Window:
        """`count` tokens from `begin` on, of the corpus as a ring."""
        begin %= self.tokens.size
        end = begin + count
        ids = self.tokens[begin:end].astype(np.int64)
        is_start = np.zeros(len(ids), dtype=bool)
        first, last = np.searchsorted(self.starts, (begin, end))
        is_start[self.starts[first:last] - begin] = True
        found = Window(ids, is_start, None if self.times is None else self.times[begin:end])
        if len(ids) == count:
            return found
        return Window.joined([found, self.window(0, count - len(ids))])


def cut_into_spans(corpus: TokenCorpus, length: int) -> tuple[TokenCorpus, Int64[np.ndarray, " spans"]]:
    """The corpus with documents of more than `length` tokens cut into spans that count as documents of their
    own: read in any order (`WeightedCorpus`), each with an empty state. And of which document each span is.

    Raises:
        LiquidError: a length under 1.
    """
    if length < 1:
        raise LiquidError(f"a span must have at least one token, not {length}")
    ends = np.append(corpus.starts[1:], corpus.tokens.size)
    counts = -(-(ends - corpus.starts) // length)
    document = np.repeat(np.arange(len(counts)), counts)
    within = np.arange(len(document)) - np.repeat(counts.cumsum() - counts, counts)
    return replace(corpus, starts=corpus.starts[document] + within * length), document


class WeightedCorpus:
    """A corpus whose documents are told more or less often, in another order in every epoch.

    A document of weight w comes ⌊w⌋ times, and once more with probability w − ⌊w⌋, drawn anew in every epoch.
    """

    def __init__(self, corpus: TokenCorpus, weights: Sequence[int | float], seed: int = 0):
        if len(weights) != len(corpus.starts):
            raise LiquidError(f"{len(weights)} weights for {len(corpus.starts)} documents")
        if not all(0 <= weight < math.inf for weight in weights) or not any(weights):
            raise LiquidError("weights must be at least 0 and finite, and one of them over 0")
        if sum(weights) > LARGEST_EPOCH:
            raise LiquidError(f"weights add up to {sum(weights):.1e} documents an epoch: divide all of them")
        self.corpus, self.weights, self.seed = corpus, np.asarray(weights, np.float64), seed
        self.size, self.text_bytes = corpus.size, corpus.text_bytes

    @property
    def typical_gap(self) -> float:
        return self.corpus.typical_gap

    @property
    def resolution(self) -> float:
        return self.corpus.resolution

    @property
    def checksum(self) -> int:
        return zlib.crc32(self.weights.tobytes(), self.corpus.checksum)

    def ring(self, epoch: int, least: int = 1) -> "ReorderedCorpus":
        """What an epoch reads.

        If its draw has fewer than `least` tokens, as weights under 1 may have it, it is told on in further
        draws, larger ones of the same proportions, so far as the whole text or a usual epoch has as many.
        """
        draw = np.random.default_rng([self.seed, epoch])
        lengths = np.diff(self.corpus.starts, append=self.corpus.tokens.size)
        least = least if max(self.size, self.weights @ lengths) >= least else 1
        weights, order = self.weights, np.empty(0, np.int64)
        while True:
            times = np.floor(weights + draw.random(len(weights))).astype(np.int64)
            order = np.append(order, draw.permutation(np.repeat(np.arange(len(times)), times)))
            if lengths[order].sum() >= least:
                return ReorderedCorpus(self.corpus, order)
            weights = self.weights / self.weights.max()
            weights *= max(1.0, 2 * least / (weights @ lengths))


class ReorderedCorpus:
    """Documents of a corpus in a given order, as a ring of tokens."""

    def __init__(self, corpus: TokenCorpus, order: Int64[np.ndarray, " documents"]):
        lengths = np.diff(corpus.starts, append=corpus.tokens.size)[order]
        self.corpus, self.ends, self.size = corpus, lengths.cumsum(), int(lengths.sum())
        self.shift = corpus.starts[order] - (self.ends - lengths)
        """From a place in the ring to one in the corpus, per document."""

    def window(self, begin: int, count: int) -> Window:
        """As `TokenCorpus.window`, in this order."""
        found, begin = [], begin % self.size
        number = int(np.searchsorted(self.ends, begin, "right"))
        while count:
            taken = min(int(self.ends[number]) - begin, count)  # of this document
            found.append(self.corpus.window(int(self.shift[number]) + begin, taken))
            begin, count, number = (begin + taken) % self.size, count - taken, (number + 1) % len(self.ends)
        return Window.joined(found)


class TokenSink:
    """Takes tokens as they are made.

    Args:
        keep: told each run of ids, in order.
        keep_times: told their times, if they have any.
    """

    def __init__(
        self,
        keep: Callable[[Int32[np.ndarray, " n"]], object],
        keep_times: Callable[[Float64[np.ndarray, " n"]], object],
    ):
        self.keep, self.keep_times, self.size = keep, keep_times, 0
        self.starts, self.text_bytes, self.events = array("q"), 0, 0
        self._time: float | None = None

    def add(self, documents: Iterable[Document], tokenizer: Encoder) -> None:
        """All of `documents`, of which parts that continue one another are one document."""
        bos, eos = (np.array([i], np.int32) for i in (tokenizer.bos_token_id, tokenizer.eos_token_id))
        for group in _groups(documents):
            events = [_events(document) for document in group]
            encoded = iter(tokenizer.encode_all([text for own in events for _, text in own]))
            for document, own in zip(group, events, strict=True):
                if not document.continues:
                    if self.starts:
                        self._put(eos, self._time)
                    self.starts.append(self.size)
                    self._put(bos, own[0][0])
                for time, _ in own:
                    self._put(next(encoded), time)
                self.text_bytes += len(document.text.encode())
                self.events += len(document.marks)
        if not self.starts:
            raise LiquidError("there is no document to tokenize; give at least one text")
        self._put(eos, self._time)

    def _put(self, ids: Int32[np.ndarray, " n"], time: float | None) -> None:
        self.keep(ids)
        self.size += len(ids)
        if time is not None:
            self.keep_times(np.full(len(ids), time, np.float64))
        self._time = time


def _events(document: Document) -> list[tuple[float | None, str]]:
    """The time and text of each event; a document without times is one."""
    if not document.marks:
        return [(None, document.text)]
    ends = [*(at for at, _ in document.marks[1:]), len(document.text)]
    return [(time, document.text[at:end]) for (at, time), end in zip(document.marks, ends, strict=True)]


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
    times: list[np.ndarray] = []
    sink = TokenSink(runs.append, times.append)
    sink.add(documents, tokenizer)
    return TokenCorpus(
        np.concatenate(runs).astype(np.int32),
        np.array(sink.starts, np.int64),
        sink.text_bytes,
        np.concatenate(times) if times else None,
        sink.events,
    )


@dataclass(frozen=True)
class Batch:
    """B windows of T tokens.

    Attributes:
        input_ids: the tokens.
        targets: the token after each; −100 where that is the ``<s>`` of another document.
        starts: true where the state must begin anew: at a document's ``<s>``, and where a row has jumped.
        times, next_times: of the tokens and of what follows each, if they have any.
    """

    input_ids: Int64[Tensor, "b t"]
    targets: Int64[Tensor, "b t"]
    starts: Bool[Tensor, "b t"]
    times: Num[Tensor, "b t"] | None = None
    next_times: Num[Tensor, "b t"] | None = None


class StreamBatches:
    """Endless batches for truncated back-propagation through time, with the state carried over.

    The corpus of N tokens is read as a ring; a `WeightedCorpus` has another order in every epoch. In an
    epoch, row r reads on from (offset + r·⌊N/B⌋) mod N, a window of T tokens per batch: each batch continues
    every row exactly where the one before ended. After ⌊N/(B·T)⌋ batches a new epoch begins: the offset, 0 in
    the first epoch, is drawn from (seed, epoch), so that rows and windows are cut elsewhere. At this jump,
    and in the very first batch, the first token of every row is marked as a start: the carried state is not
    that of the text before it.

    An epoch takes each token as an input once, save the N − B·T·⌊N/(B·T)⌋ < B·T tokens that are left over at
    the ends of the rows' shares, which fall elsewhere in every epoch.

    Attributes:
        epoch: how many epochs are complete.
        batches_per_epoch: ⌊N/(B·T)⌋, of this epoch.

    Raises:
        LiquidError: a batch_size or length below 1, or a corpus with fewer than B·T + 1 tokens.
    """

    def __init__(self, corpus: TokenCorpus | WeightedCorpus, batch_size: int, length: int, seed: int = 0):
        if batch_size < 1 or length < 1:
            raise LiquidError(f"batch_size and length must be at least 1, not {batch_size} and {length}")
        self.corpus, self.batch_size, self.length, self.seed = corpus, batch_size, length, seed
        self._begin(0)

    def _begin(self, epoch: int, batch: int = 0) -> None:
        """Stand before this batch of this epoch."""
        needed = self.batch_size * self.length + 1
        ring = self.corpus.ring(epoch, needed)
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
