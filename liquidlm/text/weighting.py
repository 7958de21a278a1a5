"""Weighted documents in a new random order every epoch, and long documents cut into spans."""

import math
import zlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Int64

from ..errors import LiquidError
from .token_corpus import TokenCorpus, Window

LARGEST_EPOCH = 1e8
"""The most documents, or spans, in an epoch."""


def cut_into_spans(corpus: TokenCorpus, length: int) -> tuple[TokenCorpus, Int64[np.ndarray, " spans"]]:
    """Cut every document into spans of at most `length` tokens.

    A span counts as a separate document: a `WeightedCorpus` shuffles the spans, and the state is empty at
    the beginning of each.

    Returns:
        The corpus of spans, and the number of the document that each span is from.

    Raises:
        LiquidError: `length` is under 1.
    """
    if length < 1:
        raise LiquidError(f"a span must have at least one token, not {length}")
    ends = np.append(corpus.starts[1:], corpus.tokens.size)
    counts = -(-(ends - corpus.starts) // length)
    document = np.repeat(np.arange(len(counts)), counts)
    within = np.arange(len(document)) - np.repeat(counts.cumsum() - counts, counts)
    return replace(corpus, starts=corpus.starts[document] + within * length), document


class WeightedCorpus:
    """A corpus with a weight per document, in a new random order every epoch.

    A document of weight w comes ⌊w⌋ times in an epoch, and once more with probability w − ⌊w⌋.

    Args:
        corpus: the documents.
        weights: one per document, at least 0.
        seed: of the random orders; the same seed gives the same epochs.

    Attributes:
        size: tokens of the corpus, each counted once.
        text_bytes: UTF-8 bytes of its text.

    Raises:
        LiquidError: the weights do not fit the documents, are negative, infinite or all 0, or give an epoch
            of more than 10⁸ documents.
    """

    def __init__(self, corpus: TokenCorpus, weights: Sequence[int | float], seed: int = 0):
        if len(weights) != len(corpus.starts):
            raise LiquidError(
                f"there are {len(weights)} weights for {len(corpus.starts)} documents; give one each"
            )
        if not all(0 <= weight < math.inf for weight in weights) or not any(weights):
            raise LiquidError("weights must be at least 0 and finite, and one of them greater than 0")
        if sum(weights) > LARGEST_EPOCH:
            raise LiquidError(
                f"the weights give {sum(weights):.1e} documents per epoch, more than {LARGEST_EPOCH:.0e};"
                " divide all weights by the same number"
            )
        self.corpus, self.weights, self.seed = corpus, np.asarray(weights, np.float64), seed
        self.size, self.text_bytes = corpus.size, corpus.text_bytes

    @property
    def typical_gap(self) -> float:
        """The median gap of the corpus in seconds."""
        return self.corpus.typical_gap

    @property
    def resolution(self) -> float:
        """The resolution of the corpus's times in seconds."""
        return self.corpus.resolution

    @property
    def checksum(self) -> int:
        """CRC-32 of the corpus and the weights."""
        return zlib.crc32(self.weights.tobytes(), self.corpus.checksum)

    def ring(self, epoch: int, least: int = 1) -> "ReorderedCorpus":
        """The tokens of an epoch, read as a ring.

        With weights under 1 a draw may have fewer than `least` tokens. Then further, larger draws of the same
        proportions follow, unless both the whole corpus and an average epoch have fewer than `least` tokens.
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
    """The documents of a corpus in a given order, some perhaps repeated or absent, as a ring of tokens.

    Args:
        corpus: the documents.
        order: their numbers, in the order in which they are read.

    Attributes:
        size: tokens of the ring.
        ends: the position after the last token of each document in the ring.
        shift: per document, its position in the corpus minus its position in the ring.
    """

    def __init__(self, corpus: TokenCorpus, order: Int64[np.ndarray, " documents"]):
        lengths = np.diff(corpus.starts, append=corpus.tokens.size)[order]
        self.corpus, self.ends, self.size = corpus, lengths.cumsum(), int(lengths.sum())
        self.shift = corpus.starts[order] - (self.ends - lengths)

    def window(self, begin: int, count: int) -> Window:
        """`count` tokens from position `begin`; after the last token comes the first again."""
        found, begin = [], begin % self.size
        number = int(np.searchsorted(self.ends, begin, "right"))
        while count:
            taken = min(int(self.ends[number]) - begin, count)  # of this document
            found.append(self.corpus.window(int(self.shift[number]) + begin, taken))
            begin, count, number = (begin + taken) % self.size, count - taken, (number + 1) % len(self.ends)
        return Window.joined(found)
