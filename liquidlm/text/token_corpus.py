"""A text as tokens: one long array of ids, and where each document begins in it."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float64, Int32, Int64, Integer, Num

from .gaps import GAP_ERROR

RESOLUTIONS = (86400.0, 3600.0, 60.0, 1.0, 0.1, 0.01, 0.001)
"""The resolutions of clocks that are looked for, in seconds."""
CHUNK = 1 << 20
"""Tokens that are read at a time from a corpus in a file."""


@runtime_checkable
class TokenArray(Protocol):
    """Ids in memory or in a file: the parts of a numpy array that a corpus uses."""

    @property
    def size(self) -> int:
        """The number of tokens."""
        ...

    def __getitem__(self, part: slice) -> Integer[np.ndarray, " n"]: ...


@runtime_checkable
class TimeArray(Protocol):
    """Times in memory or in a file: the parts of a numpy array that a corpus uses."""

    @property
    def size(self) -> int:
        """The number of times."""
        ...

    def __getitem__(self, part: slice) -> Float64[np.ndarray, " n"]: ...


class Window(NamedTuple):
    """Consecutive tokens.

    Attributes:
        ids: the tokens.
        starts: true where a document begins.
        times: the time of each token in seconds, or None.
    """

    ids: Int64[np.ndarray, " n"]
    starts: Bool[np.ndarray, " n"]
    times: Num[np.ndarray, " n"] | None

    @classmethod
    def joined(cls, windows: Sequence["Window"]) -> "Window":
        """The windows, one after the other, as one."""
        ids, starts, times = zip(*windows, strict=True)
        together = None if times[0] is None else np.concatenate(times)
        return cls(np.concatenate(ids), np.concatenate(starts), together)


@dataclass(frozen=True)
class TokenCorpus:
    """Documents one after the other, each ``<s> … </s>``.

    Attributes:
        tokens: ids of all documents.
        starts: the position in `tokens` of each document's ``<s>``; the first is 0.
        text_bytes: UTF-8 bytes of the text, the denominator of bits per byte.
        times: the time of each token in seconds, if the text has times.
        events: the number of events, if the text has times.
    """

    tokens: Int32[np.ndarray, " tokens"] | TokenArray
    starts: Int64[np.ndarray, " documents"]
    text_bytes: int
    times: Num[np.ndarray, " tokens"] | TimeArray | None = None
    events: int = 0

    @cached_property
    def checksum(self) -> int:
        """CRC-32 of tokens and times: it identifies the text and its tokenizer."""
        total = 0
        for begin in range(0, self.tokens.size, CHUNK):
            part = slice(begin, begin + CHUNK)
            total = zlib.crc32(self.tokens[part].astype(np.int32).tobytes(), total)
            if self.times is not None:
                total = zlib.crc32(self.times[part].tobytes(), total)
        return total

    @cached_property
    def typical_gap(self) -> float:
        """The median gap over 0 between two tokens of a document, in seconds; 1 if there is no gap."""
        return float(np.median(self._gaps)) if self._gaps.size else 1.0

    @cached_property
    def resolution(self) -> float:
        """The resolution of the times in seconds: the largest of RESOLUTIONS that divides every gap, or 0."""
        for step in RESOLUTIONS if self._gaps.size else ():
            multiple = (self._gaps / step).round().clip(min=1) * step
            if bool((np.abs(self._gaps - multiple) < GAP_ERROR).all()):
                return step
        return 0.0

    @cached_property
    def _gaps(self) -> Float64[np.ndarray, " n"]:
        """The gaps over 0 between tokens of the same document."""
        if self.times is None:
            return np.empty(0)
        found = []
        for begin in range(0, self.times.size, CHUNK):
            times = self.times[begin : begin + CHUNK + 1]
            gaps, within = np.diff(times), np.ones(max(0, len(times) - 1), dtype=bool)
            first, last = np.searchsorted(self.starts, (begin + 1, begin + len(times)))
            within[self.starts[first:last] - begin - 1] = False
            found.append(gaps[within & (gaps > 0)])
        return np.concatenate(found)

    @property
    def size(self) -> int:
        """The number of tokens."""
        return self.tokens.size

    def ring(self, epoch: int, least: int = 1) -> "TokenCorpus":
        """The tokens of an epoch, read as a ring: here always all documents in their order."""
        return self

    def window(self, begin: int, count: int) -> Window:
        """`count` tokens from position `begin`; after the last token comes the first again."""
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
