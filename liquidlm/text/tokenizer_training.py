"""Learn a byte-level BPE vocabulary from texts."""

import re
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer

from ..errors import LiquidError
from .byte_level import BOS, EOS, PAD, SPECIAL_TOKENS, UNK
from .corpus import read_documents
from .cutting import PIECE, pieces
from .utf8 import text_bytes

MIN_VOCAB_SIZE = 256 + len(SPECIAL_TOKENS)
"""Every byte has a token, so every text can be written."""
LONGEST_WORD = 1000
"""The most characters of a word to learn from: the time to learn grows with the square of this length."""
LONG_WORD = re.compile(rf"\S{{{LONGEST_WORD + 1}}}|\s{{{LONGEST_WORD + 1}}}")


def train_bpe(texts: Iterable[str | Path], vocab_size: int) -> Tokenizer:
    """Learn a byte-level BPE of `vocab_size` − 1 tokens, without ``<mask>``; see `LEDTokenizerWrapper.train`.

    Raises:
        LiquidError: `vocab_size` is under 261, or there are no texts.
    """
    if isinstance(texts, str):
        raise LiquidError("train() takes an iterable of texts, not one string; pass [text]")
    if vocab_size < MIN_VOCAB_SIZE:
        raise LiquidError(f"a vocabulary of {vocab_size} is too small: at least {MIN_VOCAB_SIZE}")
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    trainer = BpeTrainer(
        vocab_size=vocab_size - 1,
        min_frequency=2,
        special_tokens=[BOS, PAD, EOS, UNK],
        initial_alphabet=ByteLevel.alphabet(),
        show_progress=False,
    )
    in_background(lambda: tokenizer.train_from_iterator(training_pieces(texts), trainer))
    return tokenizer


def training_pieces(texts: Iterable[str | Path]) -> Iterator[str]:
    """The texts, and the texts of the files that Paths name, in pieces without words over LONGEST_WORD.

    Raises:
        LiquidError: there are no texts, or one has half of a surrogate pair.
    """
    is_empty = True
    for text in _each_text(texts):
        is_empty = False
        text_bytes(text)
        for piece in pieces(text, PIECE):
            step = LONGEST_WORD if LONG_WORD.search(piece) else max(1, len(piece))
            yield from (piece[start : start + step] for start in range(0, len(piece), step))
    if is_empty:
        raise LiquidError("no texts to train on; if they came from a generator, it may be used up")


def _each_text(texts: Iterable[str | Path]) -> Iterator[str]:
    for text in texts:
        if isinstance(text, Path):
            yield from (document.text for document in read_documents(text))
        else:
            yield text


def in_background(work: Callable[[], object]) -> None:
    """Run native code, which does not react to signals, in a thread, so that Ctrl-C is handled at once.

    An error of `work` is raised here.
    """
    failed: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(0.1)
    if failed:
        raise failed[0]
