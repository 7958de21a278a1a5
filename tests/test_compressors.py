import random

import pytest

from benchmarks import compressors, texts
from liquidlm import LEDTokenizerWrapper
from liquidlm.text.corpus import Document
from liquidlm.text.tokenization import tokenize_documents


def _words(count: int, seed: int) -> str:
    words = ["tide", "moon", "harbour", "señal", "lamp", "rope"]
    return " ".join(random.Random(seed).choices(words, k=count))


@pytest.fixture(scope="module", params=["bytes", "bpe"])
def text(request):
    documents = [Document(_words(900, seed), str(seed)) for seed in range(3)]
    tokenizer = LEDTokenizerWrapper.bytes()
    if request.param == "bpe":
        tokenizer = LEDTokenizerWrapper.train((d.text for d in documents), 300)
    train, held_out = (tokenize_documents(part, tokenizer) for part in (documents[:2], documents[2:]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(texts, "ROWS", 2)
        patch.setattr(texts, "BURN_IN", 8)
        rows = texts.held_out(held_out, tokenizer, 1500)
    return texts.Text(tokenizer, train, rows, rows, rows), documents


def test_the_compressors_see_the_same_bytes_as_the_models(text):
    text, documents = text
    assert compressors.training_bytes(text) == b"".join(d.text.encode() + b"\n" for d in documents[:2])
    rows = compressors.rows_of(text, text.test)
    assert sum(len(row.judged) for row in rows) == pytest.approx(text.test.text_bytes, abs=8)
    whole = documents[2].text.encode() + b"\n"
    assert all(row.context + row.judged in whole and row.context for row in rows)


def test_what_was_seen_in_training_costs_little_and_noise_does_not():
    pytest.importorskip("pyppmd")
    known = bytes(random.Random(0).choices(range(256), k=4000))
    noise = bytes(random.Random(1).choices(range(256), k=4000))
    for cost in (lambda row: compressors.ppmd(known, [row], 8), lambda row: compressors.xz(known, [row])):
        assert cost(compressors.Row(b"", known)) < 0.2 * 8 * 4000
        assert cost(compressors.Row(b"", noise)) > 0.9 * 8 * 4000


def test_the_context_of_a_row_is_not_judged():
    pytest.importorskip("pyppmd")
    noise = bytes(random.Random(2).choices(range(256), k=3000))
    judged = b"and so on, and so on, and so on"
    assert compressors.ppmd(b"", [compressors.Row(noise, judged)], 8) < 8 * 60
