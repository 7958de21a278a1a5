"""The tokens of a large text in a file, found again by the hash of the text and the tokenizer."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout
from jaxtyping import Shaped
from platformdirs import user_cache_path
from rich.console import Console

from ..errors import LiquidError
from ..runtime.folders import make_folder, write_folder
from ..runtime.write_errors import cannot_write
from .corpus import Document
from .token_corpus import TokenCorpus
from .tokenization import TokenSink
from .tokenizer import LEDTokenizerWrapper

FOLDER = "LIQUIDLM_CACHE"
"""The environment variable that names another cache folder."""


class TokenFile:
    """An array of ids or times in a file. Only the parts that are read come into memory.

    Args:
        file: the numbers, without a header.
        dtype: their type.

    Attributes:
        size: how many there are.
    """

    def __init__(self, file: Path, dtype: np.dtype):
        self.file, self.dtype = file, dtype
        self.size = file.stat().st_size // dtype.itemsize

    def __getitem__(self, part: slice) -> Shaped[np.ndarray, " n"]:
        begin, end, _ = part.indices(self.size)
        offset = begin * self.dtype.itemsize
        return np.fromfile(self.file, self.dtype, max(0, end - begin), offset=offset)


def cached_tokens(
    digest: str,
    documents: Callable[[], Iterable[Document]],
    tokenizer: LEDTokenizerWrapper,
) -> TokenCorpus:
    """The corpus of `documents`, from the cache; it is tokenized and written there first if it is missing.

    A second process that needs the same text waits until the first has written it.

    Args:
        digest: identifies the documents' text; see `held_out.survey`.
        documents: reads the documents, in parts. Called only if the cache does not have them.
        tokenizer: makes the tokens.

    Raises:
        LiquidError: the cache cannot be written or is damaged, or the documents cannot be read.
    """
    folder = cache_folder() / "tokens" / _key(digest, tokenizer)
    dtype = np.dtype(np.uint16 if tokenizer.vocab_size <= 1 << 16 else np.int32)

    def fill(part: Path) -> None:
        with (part / "tokens.bin").open("wb") as tokens, (part / "times.bin").open("wb") as times:
            sink = TokenSink(
                lambda ids: tokens.write(ids.astype(dtype).tobytes()), lambda of: times.write(of.tobytes())
            )
            sink.add(documents(), tokenizer)
        np.save(part / "starts.npy", np.array(sink.starts, np.int64))
        facts = {"text_bytes": sink.text_bytes, "tokens": sink.size, "events": sink.events}
        (part / "corpus.json").write_text(json.dumps(facts), encoding="utf-8")

    if not folder.exists():
        with _one_at_a_time(folder):
            if not folder.exists():  # no other process wrote it in the meantime
                write_folder(folder, fill)
    try:
        facts = json.loads((folder / "corpus.json").read_text(encoding="utf-8"))
        tokens = TokenFile(folder / "tokens.bin", dtype)
        times = TokenFile(folder / "times.bin", np.dtype(np.float64)) if facts.get("events") else None
        if tokens.size != facts["tokens"] or (times is not None and times.size != tokens.size):
            raise ValueError("tokens.bin or times.bin has another size")
        starts = np.load(folder / "starts.npy")
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise LiquidError(f"{folder} is damaged ({error}); delete it, and it is made again") from error
    return TokenCorpus(tokens, starts, facts["text_bytes"], times, facts.get("events", 0))


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder. The system frees the lock of a process that was killed."""
    locks = cache_folder() / "locks"
    make_folder(locks)
    lock = FileLock(locks / folder.name)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        Console(stderr=True).print("waiting for another process that tokenizes the same text")
        lock.acquire()
    except OSError as error:
        raise cannot_write(folder, error) from error
    try:
        yield
    finally:
        lock.release()


def cache_folder() -> Path:
    """`$LIQUIDLM_CACHE`, or the user's cache folder of this system: on Linux `~/.cache/liquidlm`."""
    return Path(os.environ.get(FOLDER) or user_cache_path("liquidlm", appauthor=False))


def _key(digest: str, tokenizer: LEDTokenizerWrapper) -> str:
    return hashlib.sha256(f"{digest} {tokenizer.backend.backend_tokenizer.to_str()}".encode()).hexdigest()
