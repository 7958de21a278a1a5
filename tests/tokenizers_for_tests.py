"""Tokenizers and texts that several tests of tokenizers share."""

import functools
import inspect
from pathlib import Path
from pydoc_data import topics

import pytest
from tokenizers import Tokenizer

from liquidlm.errors import LiquidError
from liquidlm.text.tokenizer import LEDTokenizerWrapper

REPOSITORY = Path(__file__).parents[1]
LED = REPOSITORY.parent / "shared" / "data" / "led-bpe"
TEXTS = [topics.topics[name] for name in sorted(topics.topics)][:40]


@functools.cache
def make(kind: str) -> LEDTokenizerWrapper:
    if kind == "led" and not LED.is_dir():
        pytest.skip("the real LED vocabulary is not beside the repository")
    if kind == "led":
        return LEDTokenizerWrapper(LED)
    return LEDTokenizerWrapper.bytes() if kind == "bytes" else LEDTokenizerWrapper.train(TEXTS, 600)


def unchecked(method):
    """The method without the type checker of the test run, as users have it."""
    return functools.partial(inspect.unwrap(method.__func__), method.__self__)


def refused(match: str, call, *args, **kwargs) -> None:
    with pytest.raises(LiquidError, match=match):
        call(*args, **kwargs)


def rust(kind: str = "bpe") -> Tokenizer:
    """A fresh copy of what a tokenizer.json holds, to be changed."""
    return Tokenizer.from_str(make(kind).backend.backend_tokenizer.to_str())
