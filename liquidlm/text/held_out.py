"""Documents ▶ training text and held-out text, in two passes that keep no text in memory.

First `survey` counts the characters of each document, and `split_points` decides how many of each are for
training. Then `portions` yields one side or the other.
"""

import hashlib
import random
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from ..errors import LiquidError, counted
from .corpus import Document

FEW_DOCUMENTS = 10
"""With fewer documents, each one is cut into training and held-out text."""


@dataclass(frozen=True)
class Survey:
    """The result of one pass over documents.

    Attributes:
        lengths: characters of each document.
        paths: the number of the given path that each document is from.
        digest: SHA-256 of the texts, their times, and where each begins.
    """

    lengths: Sequence[int]
    paths: Sequence[int]
    digest: str


def survey(documents: Iterable[Document]) -> Survey:
    """Read the documents once and keep none of them.

    >>> survey([Document("one", "a.txt"), Document(" two", "a.txt", continues=True)]).lengths
    array('q', [7])
    """
    lengths, paths, digest = array("q"), array("q"), hashlib.sha256()
    for document in documents:
        if document.continues:
            lengths[-1] += len(document.text)
        else:
            lengths.append(len(document.text))
            paths.append(document.path)
            digest.update(b"\0")  # no text contains it
        digest.update(document.text.encode())
        if document.marks:
            digest.update(repr(document.marks).encode())
    return Survey(lengths, paths, digest.hexdigest())


def split_points(lengths: Sequence[int], valid_fraction: float = 0.1, seed: int = 0) -> Sequence[int]:
    """The number of characters of each document that are for training; the rest is held out.

    With fewer than 10 documents, each is cut at character int(n·(1 − valid_fraction)); its end is held out
    (nanoGPT's split: the first 90 % are for training). With 10 or more, whole documents are held out: in an
    order permuted by `seed`, each document is held out if the held-out text stays within `valid_fraction` of
    all characters. If none is short enough, the shortest is held out.

    >>> split_points([100, 50], valid_fraction=0.1)
    [90, 45]

    Args:
        lengths: characters of each document.
        valid_fraction: the share of held-out characters, between 0 and 1.
        seed: of the order of the documents.

    Raises:
        LiquidError: `valid_fraction` is not between 0 and 1, or there is too little text for both sides.
    """
    if not 0 < valid_fraction < 1:
        raise LiquidError(f"valid_fraction must be between 0 and 1, both excluded, not {valid_fraction}")
    if len(lengths) < FEW_DOCUMENTS:
        points = [int(length * (1 - valid_fraction)) for length in lengths]
    else:
        points = array("q", lengths)
        for number in _held_out(lengths, valid_fraction, seed):
            points[number] = 0
    if not any(points) or all(point == length for point, length in zip(points, lengths, strict=True)):
        raise LiquidError(
            f"{counted(len(lengths), 'document')} with {counted(sum(lengths), 'character')}: too little text"
            f" to hold out {valid_fraction:g} of it for validation; add text or change the fraction"
        )
    return points


def _held_out(lengths: Sequence[int], valid_fraction: float, seed: int) -> list[int]:
    room = valid_fraction * sum(lengths)
    found: list[int] = []
    for number in random.Random(seed).sample(range(len(lengths)), len(lengths)):
        if lengths[number] <= room:
            room -= lengths[number]
            found.append(number)
    return found or [min(range(len(lengths)), key=lengths.__getitem__)]


def portions(
    documents: Iterable[Document], points: Sequence[int], held_out: bool = False
) -> Iterator[Document]:
    """The training text of the documents, or the held-out text.

    Args:
        documents: whole or in parts, the same as in the survey.
        points: of `split_points`.
        held_out: yield what follows each document's point, not what precedes it.
    """
    number, begin = -1, 0
    for document in documents:
        if not document.continues:
            number, begin = number + 1, 0
        cut = min(max(points[number] - begin, 0), len(document.text))
        part = document.part(cut, len(document.text)) if held_out else document.part(0, cut)
        if part.text:
            continues = begin > points[number] if held_out else document.continues
            yield replace(part, continues=continues)
        begin += len(document.text)
