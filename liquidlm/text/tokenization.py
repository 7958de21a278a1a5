"""Documents ▶ one stream of tokens, in memory or into any place that takes them."""

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64, Int32

from ..errors import LiquidError
from .corpus import Document
from .token_corpus import TokenCorpus

GROUP = 1 << 20
"""Characters that are tokenized in parallel."""


@runtime_checkable
class Encoder(Protocol):
    """The part of a tokenizer that is needed here; `LEDTokenizerWrapper` has it."""

    @property
    def bos_token_id(self) -> int:
        """The id of ``<s>``, which begins a document."""
        ...

    @property
    def eos_token_id(self) -> int:
        """The id of ``</s>``, which ends a document."""
        ...

    def encode_all(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The ids of each text, without `<s>` and `</s>`."""
        ...


def tokenize_documents(documents: Iterable[Document], tokenizer: Encoder) -> TokenCorpus:
    """The corpus of `documents`, in their order, in memory.

    Raises:
        LiquidError: there is no document.
    """
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


class TokenSink:
    """Tokenizes documents and passes the tokens on as they are made.

    Args:
        keep: called with each run of ids, in order.
        keep_times: called with the times of the run in seconds, if the text has times.

    Attributes:
        size: the number of tokens so far.
        starts: the position of each document's ``<s>``.
        text_bytes: UTF-8 bytes of the text.
        events: the number of events, if the text has times.
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
        """Tokenize all of `documents`. A part that continues the one before belongs to the same document.

        Raises:
            LiquidError: there is no document.
        """
        bos, eos = (np.array([i], np.int32) for i in (tokenizer.bos_token_id, tokenizer.eos_token_id))
        for group in _groups(documents):
            events = [document.events() for document in group]
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


def _groups(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """Documents in groups of at least GROUP characters."""
    group, characters = [], 0
    for document in documents:
        group.append(document)
        characters += len(document.text)
        if characters >= GROUP:
            yield group
            group, characters = [], 0
    if group:
        yield group
