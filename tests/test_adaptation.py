import numpy as np
import pytest
import torch

from liquidlm import LiquidConfig
from liquidlm.errors import LiquidError
from liquidlm.inference.evaluate import evaluate
from liquidlm.model.language_model import LiquidLanguageModel
from liquidlm.text.corpus import Document
from liquidlm.text.tokenization import tokenize_documents
from liquidlm.text.tokenizer import LEDTokenizerWrapper
from liquidlm.training.adaptation import evaluate_learning

TOKENIZER = LEDTokenizerWrapper.bytes()
EOS = TOKENIZER.eos_token_id


def small(time_components: int = 0) -> LiquidLanguageModel:
    torch.manual_seed(0)
    config = LiquidConfig(
        vocab_size=TOKENIZER.vocab_size,
        hidden_size=32,
        embedding_dim=32,
        latent_dim=16,
        num_hidden_layers=2,
        time_components=time_components,
    )
    return LiquidLanguageModel.of(config).eval()


def corpus(*texts: str):
    return tokenize_documents([Document(text, str(i)) for i, text in enumerate(texts)], TOKENIZER)


def test_what_fits_into_one_block_is_judged_by_the_weights_as_they_are():
    text, model = corpus("a tide comes in, a tide goes out. " * 14), small()
    fixed = evaluate(model, text, eos_token_id=EOS)
    learning = evaluate_learning(model, text, eos_token_id=EOS, rate=0.02)
    assert learning.nats == pytest.approx(fixed.nats, rel=1e-5) and learning.tokens == fixed.tokens


def test_a_text_that_goes_on_alike_costs_less_and_the_same_on_every_run():
    text = corpus("a tide comes in, a tide goes out. " * 400)
    fixed = evaluate(small(), text, eos_token_id=EOS)
    first, second = (evaluate_learning(small(), text, eos_token_id=EOS, rate=0.05) for _ in range(2))
    assert first.bits_per_byte < 0.9 * fixed.bits_per_byte
    assert first.nats == second.nats and first.bytes == fixed.bytes


def test_several_documents_are_read_as_one_text():
    text = corpus(*["one document, " * 30] * 6)
    found = evaluate_learning(small(), text, eos_token_id=EOS, rate=0.02)
    assert found.tokens == evaluate(small(), text, eos_token_id=EOS).tokens


def test_several_documents_with_times_are_refused():
    text = corpus("on\noff\n", "on\noff\n")
    times = np.zeros(text.tokens.size)
    timed = type(text)(text.tokens, text.starts, text.text_bytes, times)
    with pytest.raises(LiquidError, match="one document with times"):
        evaluate_learning(small(time_components=2), timed, eos_token_id=EOS)
