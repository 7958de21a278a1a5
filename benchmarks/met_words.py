"""Words met before in the same document: names and places, which a reader remembers.

A word is a run of letters, of any case. It is judged if it has at least four letters, if it is rare in the
training text (at most one of a million words there), and if the document had it for the first time more
than 8,192 bytes earlier.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

WORD = re.compile(r"[^\W\d_]+")
SHORTEST = 4
"""Letters of a judged word, at least."""
MOST = 1
"""Times in a million words of the training text, at most."""
DISTANCE = 8192
"""Bytes to the first time in the document, more than."""


class Word(NamedTuple):
    """A rare word of a document, and where it was before.

    Attributes:
        text: in small letters.
        begin, end: in bytes.
        first, last: where the same word began for the first time, and the last time before this one; for a
            new word, `begin`.
    """

    text: str
    begin: int
    end: int
    first: int
    last: int


class Vocabulary:
    """How often each word is in the training text.

    >>> training = Vocabulary(["the cat sat", "The dog"])
    >>> training.is_rare("the"), training.is_rare("Rochester")
    (False, True)
    """

    def __init__(self, texts: Iterable[str]):
        self.counts = Counter(word.casefold() for text in texts for word in WORD.findall(text))
        self.size = self.counts.total()

    def is_rare(self, word: str) -> bool:
        """Whether at most one of a million words is this one."""
        return 1e6 * self.counts[word.casefold()] <= MOST * self.size


def rare_words(document: str, training: Vocabulary) -> Iterator[Word]:
    """The rare words of a document, of at least four letters, in their order.

    >>> [(word.text, word.begin, word.first) for word in rare_words("Señor Ayala: Ayala", Vocabulary([]))]
    [('señor', 0, 0), ('ayala', 7, 7), ('ayala', 14, 7)]
    """
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    at = end = 0
    for match in WORD.finditer(document):
        at, end = at + len(document[end : match.start()].encode()), match.end()
        begin, at = at, at + len(match[0].encode())
        text = match[0].casefold()
        if len(match[0]) >= SHORTEST and training.is_rare(text):
            yield Word(text, begin, at, first.setdefault(text, begin), last.get(text, begin))
            last[text] = begin


def met_before(words: Iterable[Word]) -> list[Word]:
    """Those whose first time was more than 8,192 bytes earlier."""
    return [word for word in words if word.begin - word.first > DISTANCE]


def long_unseen(words: Iterable[Word]) -> list[Word]:
    """Those whose last time was more than 8,192 bytes earlier."""
    return [word for word in words if word.begin - word.last > DISTANCE]


def places(words: Iterable[Word], size: int) -> Bool[Tensor, " n"]:
    """Which of the first `size` bytes are of these words; a word that is cut there is left out."""
    inside = torch.zeros(size, dtype=torch.bool)
    for word in words:
        if word.end <= size:
            inside[word.begin : word.end] = True
    return inside


def bits_per_byte(nats: list[Float[Tensor, " n"]], judged: list[Bool[Tensor, " n"]]) -> float:
    """Mean bits of the judged bytes of all documents together, Σ nats / (bytes · ln 2).

    Args:
        nats: of each byte of each document.
        judged: which bytes count.
    """
    chosen = torch.cat([each[inside] for each, inside in zip(nats, judged, strict=True)])
    return chosen.double().mean().item() / math.log(2)
