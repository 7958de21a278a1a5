"""Tokens in a file: two that fill one cache at a time, and what a killed one has left."""

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from liquidlm import LEDTokenizerWrapper
from liquidlm.runtime.checksums import verify
from liquidlm.text.corpus import Document
from liquidlm.text.token_cache import FOLDER, cached_tokens


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(FOLDER, str(tmp_path))
    return tmp_path / "tokens"


def test_two_that_fill_one_cache_at_a_time_make_it_once(cache: Path, capsys) -> None:
    tokenizer, began, read, found = LEDTokenizerWrapper.bytes(), threading.Event(), [], []

    def documents() -> Iterator[Document]:
        read.append("once")
        yield Document("the first half, ", "a")
        began.set()
        waits.wait(10)
        yield Document("the second", "a", continues=True)

    def fill() -> None:
        found.append(cached_tokens("digest", documents, tokenizer))

    waits, both = threading.Event(), [threading.Thread(target=fill) for _ in range(2)]
    both[0].start()
    assert began.wait(10)
    both[1].start()
    both[1].join(0.5)  # it would have ended by now if it did not wait
    assert both[1].is_alive()
    waits.set()
    for thread in both:
        thread.join()
    assert read == ["once"] and "waiting for another process" in capsys.readouterr().err
    first, second = (corpus.tokens[:] for corpus in found)
    assert np.array_equal(first, second)
    assert tokenizer.decode(first.tolist()) == "the first half, the second"
    (made,) = (path for path in cache.iterdir() if path.is_dir())
    verify(made)


def test_what_a_killed_one_has_left_is_no_hindrance_and_goes(cache: Path) -> None:
    tokenizer = LEDTokenizerWrapper.bytes()
    corpus = cached_tokens("digest", lambda: iter([Document("text", "a")]), tokenizer)
    (made,) = (path for path in cache.iterdir() if path.is_dir())
    left = made.with_name(f".{made.name[:50]}.liquidlm-0123456789ab.part")
    made.rename(left)
    again = cached_tokens("digest", lambda: iter([Document("text", "a")]), tokenizer)
    assert np.array_equal(again.tokens[:], corpus.tokens[:]) and made.is_dir() and not left.exists()
