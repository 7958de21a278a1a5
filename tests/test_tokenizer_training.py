"""Learning a BPE vocabulary: exact size, the same every time, any text, interrupts."""

import threading
from pathlib import Path

import pytest
from tokenizers_for_tests import TEXTS, make, refused, unchecked

from liquidlm.errors import LiquidError
from liquidlm.text import tokenizer_training as module
from liquidlm.text.byte_level import SPECIAL_TOKENS
from liquidlm.text.tokenizer import LEDTokenizerWrapper


def test_training_gives_exactly_the_size_and_always_the_same():
    first, again = (LEDTokenizerWrapper.train(iter(TEXTS), 500) for _ in range(2))
    assert len(first) == 500
    assert first.backend.backend_tokenizer.to_str() == again.backend.backend_tokenizer.to_str()
    assert len(make("bpe").encode(TEXTS[0])) < 0.6 * len(TEXTS[0].encode())
    assert len(LEDTokenizerWrapper.train(["abab"], 261)) == 261
    assert 261 < len(LEDTokenizerWrapper.train(["aaa bbb aaa bbb"], 1000)) < 280  # all that this text holds


def test_training_on_special_tokens_does_not_learn_them():
    text = " ".join(SPECIAL_TOKENS) * 100 + "".join(SPECIAL_TOKENS) * 100
    tokenizer = LEDTokenizerWrapper.train([text], 300)
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_training_errors():
    for size in (260, 0, -1):
        refused(f"a vocabulary of {size} is too small.* 261", LEDTokenizerWrapper.train, ["text"], size)
    refused(r"pass \[text\]", unchecked(LEDTokenizerWrapper.train), "text", 300)
    refused("no texts", LEDTokenizerWrapper.train, iter([]), 300)
    refused("got int", LEDTokenizerWrapper.train, iter(["text", 3]), 300)


def test_trains_from_files_too(tmp_path: Path) -> None:
    text = "to be or not to be, that is the question\n" * 50
    (tmp_path / "text.txt").write_text(text)
    by_path = LEDTokenizerWrapper.train([tmp_path / "text.txt"], 300)
    assert by_path.encode(text).tolist() == LEDTokenizerWrapper.train([text], 300).encode(text).tolist()


def test_a_word_of_any_length_is_learned_from_in_parts() -> None:
    """Learning takes time with the square of a word; a text without long words is not cut."""
    dna = "ACGT" * 3000
    for text in (dna, f"two words {dna} and more", " " * 9000, "x " * 100 + "," * 5000):
        pieces = list(module.training_pieces([text]))
        assert "".join(pieces) == text and max(map(len, pieces)) <= module.LONGEST_WORD
    assert list(module.training_pieces(["short words " * 300, ""])) == ["short words " * 300]


def test_ctrl_c_is_heard_while_a_tokenizer_is_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Learning runs in native code, where no signal is handled: here it would never end."""
    done = threading.Event()

    def interrupted(thread: threading.Thread, timeout: float | None = None) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("threading.Thread.join", interrupted)
        with pytest.raises(KeyboardInterrupt):
            module.in_background(done.wait)
    done.set()


def test_a_mistake_in_the_texts_passes_through_learning() -> None:
    with pytest.raises(LiquidError, match="lone surrogate"):
        LEDTokenizerWrapper.train(["a\ud800"], 300)
