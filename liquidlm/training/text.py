"""The text of a training run: read, split, tokenized."""

import functools
import hashlib
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import LiquidError, counted
from ..text.builtin import builtin_documents
from ..text.corpus import Document, read_documents
from ..text.cutting import PART
from ..text.held_out import FEW_DOCUMENTS, portions, split_points, survey
from ..text.token_cache import cached_tokens
from ..text.token_corpus import TokenCorpus
from ..text.tokenization import tokenize_documents
from ..text.tokenizer import LEDTokenizerWrapper
from ..text.weighting import WeightedCorpus, cut_into_spans
from .progress import progress_bar
from .settings import TrainSettings, bpe_size

SAMPLE_BYTES = 30_000
"""Held-out text for the rounds; the end of the run takes FINAL_BYTES of it."""
FINAL_BYTES = 1_000_000
IN_MEMORY = 1 << 26
"""Characters of training text whose tokens are kept in memory; those of more are kept in a file."""
BPE_CHARACTERS = 100_000_000
"""Characters of training text from which a BPE is learned."""


@dataclass(frozen=True)
class Texts:
    """A run's tokenizer and its text: to train on, to try in every round, to judge the end by.

    Attributes:
        notes: what its user should know about them.
    """

    tokenizer: LEDTokenizerWrapper
    train: TokenCorpus | WeightedCorpus
    sample: TokenCorpus
    final: TokenCorpus
    notes: tuple[str, ...] = ()

    def cuts_at(self, span: int) -> bool:
        """Whether training with spans of this length cuts documents as long as the held-out ones."""
        lengths = np.diff(np.append(self.final.starts, self.final.size))
        return 0 < span < int(lengths.max(initial=0))

    @property
    def held_out_checksum(self) -> int:
        """A checksum of the held-out text, by which a resumed run recognizes it."""
        return zlib.crc32(str(self.final.checksum).encode(), self.sample.checksum)


def prepare(settings: TrainSettings, tokenizer_folder: Path | None = None) -> Texts:
    """Read and split the text, make the tokenizer (from the training part only) and apply it.

    The text is read in parts, twice or three times; over IN_MEMORY characters its tokens are kept in a file.
    """
    read = functools.partial(_documents, timestamps=settings.timestamps)
    empty: list[str] = []
    with progress_bar("reading the text", None) as advance:
        found = survey(_counted(read(settings.paths, left_out=empty.append), advance))
    points = found.lengths if settings.valid else split_points(found.lengths, seed=settings.seed)

    def training() -> Iterator[Document]:
        return portions(read(settings.paths), points)

    tokenizer = _tokenizer(settings.tokenizer, training, tokenizer_folder)
    if sum(points) <= IN_MEMORY:
        train = tokenize_documents(training(), tokenizer)
    else:
        part = f"{found.digest} {hashlib.sha256(np.asarray(points, np.int64).tobytes()).hexdigest()}"
        with progress_bar("tokenizing", sum(points)) as advance:
            train = cached_tokens(part, lambda: _counted(training(), advance), tokenizer)
    trained = [path for path, point in zip(found.paths, points, strict=True) if point]
    train = _in_an_order_of_its_own(train, trained, settings)
    if settings.valid:
        count = len(survey(read(settings.valid, left_out=empty.append)).lengths)
        held_out = functools.partial(read, settings.valid)
    else:
        count = sum(point < length for point, length in zip(points, found.lengths, strict=True))
        held_out = functools.partial(portions, read(settings.paths), points, held_out=True)
    valid = list(_head(held_out(), count, FINAL_BYTES))
    sample = list(_head(valid, count, SAMPLE_BYTES))
    corpora = (tokenize_documents(part, tokenizer) for part in (sample, valid))
    return Texts(tokenizer, train, *corpora, notes=tuple(_notes(settings.tokenizer, tokenizer, empty)))


def _notes(name: str, tokenizer: LEDTokenizerWrapper, empty: list[str]) -> Iterator[str]:
    """What its user should know about a run's text and tokenizer."""
    if empty:
        names = ", ".join(empty[:3]) + (", …" if len(empty) > 3 else "")
        yield f"{counted(len(empty), 'empty file')} left out: {names}"
    if (asked := bpe_size(name)) and tokenizer.vocab_size < asked:
        yield (
            f"the text gives a vocabulary of {tokenizer.vocab_size:,} tokens only, not of {asked:,}: no other"
            " pair of neighbours occurs twice"
        )


def _in_an_order_of_its_own(
    corpus: TokenCorpus, paths: list[int], settings: TrainSettings
) -> TokenCorpus | WeightedCorpus:
    """The corpus in spans and weighted, `paths` being the number of the path each document is from."""
    document = np.arange(len(corpus.starts))
    if settings.span:
        corpus, document = cut_into_spans(corpus, settings.span)
    if not settings.span and not settings.weights:
        return corpus
    weights = np.asarray(settings.weights or [1.0] * (max(paths) + 1))
    return WeightedCorpus(corpus, weights[np.asarray(paths)[document]].tolist(), settings.seed)


def _documents(
    paths: list[str], timestamps: bool, left_out: Callable[[str], object] = lambda name: None
) -> Iterator[Document]:
    if timestamps and not paths:
        raise LiquidError("--timestamps needs text that has times: name its files")
    if not paths:
        return builtin_documents()
    return read_documents(paths, PART, timestamps=timestamps, left_out=left_out)


def _tokenizer(
    name: str, training: Callable[[], Iterator[Document]], folder: Path | None
) -> LEDTokenizerWrapper:
    if folder is not None:
        return LEDTokenizerWrapper(folder)
    if name == "bytes":
        return LEDTokenizerWrapper.bytes()
    if size := bpe_size(name):
        with progress_bar("learning the tokenizer", None) as advance:
            return LEDTokenizerWrapper.train(_texts(_counted(training(), advance), BPE_CHARACTERS), size)
    return LEDTokenizerWrapper(name)


def _counted(documents: Iterable[Document], advance: Callable[[int], object]) -> Iterator[Document]:
    """The documents, `advance` told the characters of each."""
    for document in documents:
        yield document
        advance(len(document.text))


def _texts(documents: Iterable[Document], limit: int) -> Iterator[str]:
    """The texts of documents until there are `limit` characters."""
    for document in documents:
        yield document.text
        limit -= len(document.text)
        if limit <= 0:
            return


def _head(documents: Iterable[Document], count: int, size: int) -> Iterator[Document]:
    """The first `size` bytes of `count` documents; of each an equal share if they are few and long."""
    left = size
    room = share = size // count if count < FEW_DOCUMENTS else size
    for document in documents:
        if not document.continues:
            room = share
        text = document.text.encode()[: min(room, left)].decode(errors="ignore")
        if text:
            yield document.part(0, len(text))
        room, left = room - len(text.encode()), left - len(text.encode())
        if left <= 0:
            return
