"""The text of a training run: read it, set held-out text apart, tokenize it."""

import functools
import hashlib
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import counted
from ..text.builtin import builtin_documents
from ..text.corpus import Document, read_documents
from ..text.cutting import PART
from ..text.held_out import FEW_DOCUMENTS, portions, split_points, survey
from ..text.reading_facts import ReadingFacts, reading_notes
from ..text.token_cache import cached_tokens
from ..text.token_corpus import TokenCorpus
from ..text.tokenization import tokenize_documents
from ..text.tokenizer import LEDTokenizerWrapper
from ..text.weighting import WeightedCorpus, cut_into_spans
from .progress import progress_bar
from .settings import TrainSettings, bpe_size
from .start_checks import check_text_for_times

SAMPLE_BYTES = 30_000
"""Bytes of held-out text for the evaluations during a run."""
FINAL_BYTES = 1_000_000
"""Bytes of held-out text for the evaluation at the end."""
IN_MEMORY = 1 << 26
"""Largest training text, in characters, whose tokens are kept in memory. Otherwise they are in a file."""
BPE_CHARACTERS = 100_000_000
"""Number of characters of the training text that a BPE is learned from."""


@dataclass(frozen=True)
class Texts:
    """Tokenizer and text of a run.

    Attributes:
        tokenizer: the tokenizer.
        train: training text.
        sample: held-out text for the evaluations during the run.
        final: held-out text for the evaluation at the end; it contains the sample.
        notes: notes to the user about text and tokenizer.
    """

    tokenizer: LEDTokenizerWrapper
    train: TokenCorpus | WeightedCorpus
    sample: TokenCorpus
    final: TokenCorpus
    notes: tuple[str, ...] = ()

    def cuts_at(self, span: int) -> bool:
        """Whether spans of this many tokens are shorter than the longest held-out document."""
        lengths = np.diff(np.append(self.final.starts, self.final.size))
        return 0 < span < int(lengths.max(initial=0))

    @property
    def held_out_checksum(self) -> int:
        """Checksum of the held-out text. A resumed run compares it with that of its checkpoint."""
        return zlib.crc32(str(self.final.checksum).encode(), self.sample.checksum)


def prepare(settings: TrainSettings, tokenizer_folder: Path | None = None) -> Texts:
    """Read the text, set held-out text apart, learn or load the tokenizer, and tokenize.

    A tokenizer is learned from the training text only. The text is read in parts, two or three times. The
    tokens of more than IN_MEMORY characters are kept in a file.

    Args:
        settings: settings of the run.
        tokenizer_folder: folder of a tokenizer to load. None: the tokenizer of the settings.

    Raises:
        LiquidError: the text or the tokenizer cannot be used.
    """
    read = functools.partial(_documents, settings)
    empty: list[str] = []
    facts: list[ReadingFacts] = []
    first = functools.partial(read, left_out=empty.append, found=facts.append)
    with progress_bar("reading the text", None) as advance:
        found = survey(_counted(first(settings.paths), advance))
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
    train = _weighted_spans(train, trained, settings)
    if settings.valid:
        count = len(survey(first(settings.valid)).lengths)
        held_out = functools.partial(read, settings.valid)
    else:
        count = sum(point < length for point, length in zip(points, found.lengths, strict=True))
        held_out = functools.partial(portions, read(settings.paths), points, held_out=True)
    valid = list(_head(held_out(), count, FINAL_BYTES))
    sample = list(_head(valid, count, SAMPLE_BYTES))
    corpora = (tokenize_documents(part, tokenizer) for part in (sample, valid))
    notes = (*reading_notes(facts), *_notes(settings.tokenizer, tokenizer, empty))
    return Texts(tokenizer, train, *corpora, notes=notes)


def _notes(name: str, tokenizer: LEDTokenizerWrapper, empty: list[str]) -> Iterator[str]:
    """Notes to the user about text and tokenizer."""
    if empty:
        names = ", ".join(empty[:3]) + (", …" if len(empty) > 3 else "")
        yield f"{counted(len(empty), 'empty file')} left out: {names}"
    if (asked := bpe_size(name)) and tokenizer.vocab_size < asked:
        yield (
            f"the vocabulary has {tokenizer.vocab_size:,} tokens, not {asked:,}: no other pair of tokens"
            " occurs twice in the text"
        )


def _weighted_spans(
    corpus: TokenCorpus, paths: list[int], settings: TrainSettings
) -> TokenCorpus | WeightedCorpus:
    """The corpus, cut into spans and weighted; `paths` has the number of the path of each document."""
    document = np.arange(len(corpus.starts))
    if settings.span:
        corpus, document = cut_into_spans(corpus, settings.span)
    if not settings.span and not settings.weights:
        return corpus
    weights = np.asarray(settings.weights or [1.0] * (max(paths) + 1))
    return WeightedCorpus(corpus, weights[np.asarray(paths)[document]].tolist(), settings.seed)


def _documents(
    settings: TrainSettings,
    paths: list[str],
    left_out: Callable[[str], object] = lambda name: None,
    found: Callable[[ReadingFacts], object] = lambda facts: None,
) -> Iterator[Document]:
    check_text_for_times(settings)
    if not paths:
        return iter(_builtin())
    return read_documents(
        paths,
        PART,
        timestamps=settings.timestamps,
        options=settings.reading,
        left_out=left_out,
        found=found,
    )


@functools.cache
def _builtin() -> list[Document]:
    """The built-in text. A run reads it four times, and to parse it takes seconds."""
    return list(builtin_documents())


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
    """The documents; `advance` is called with the number of characters of each."""
    for document in documents:
        yield document
        advance(len(document.text))


def _texts(documents: Iterable[Document], limit: int) -> Iterator[str]:
    """The texts of the first documents, until they have `limit` characters."""
    for document in documents:
        yield document.text
        limit -= len(document.text)
        if limit <= 0:
            return


def _head(documents: Iterable[Document], count: int, size: int) -> Iterator[Document]:
    """The first `size` bytes of `count` documents. If there are few documents, each gives an equal share."""
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
