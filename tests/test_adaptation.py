from typing import Any

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
from liquidlm.training.online import BLOCK, OnlineLearner

TOKENIZER = LEDTokenizerWrapper.bytes()
EOS = TOKENIZER.eos_token_id


def small(time_components: int = 0, **more: Any) -> LiquidLanguageModel:
    torch.manual_seed(0)
    config = LiquidConfig(
        vocab_size=TOKENIZER.vocab_size,
        hidden_size=32,
        embedding_dim=32,
        latent_dim=16,
        num_hidden_layers=2,
        time_components=time_components,
        **more,
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


COUNTS = {"count_orders": [1, 2, 3], "count_lines": 64, "count_training_lines": 256}


def table_of(model: LiquidLanguageModel) -> torch.Tensor:
    assert model.counts is not None and model.counts.training_counts is not None
    return model.counts.training_counts


def test_the_text_that_was_learned_is_counted_with_the_training_text():
    text, model, other = corpus("a tide comes in, a tide goes out. " * 50), small(**COUNTS), small(**COUNTS)
    evaluate_learning(model, text, eos_token_id=EOS, rate=0.01)
    learned = torch.from_numpy(text.tokens[: (text.tokens.size - 1) // BLOCK * BLOCK]).long()
    assert other.counts is not None
    other.counts.count_training_text(learned, torch.zeros(1, dtype=torch.long))
    assert torch.equal(table_of(model), table_of(other)) and table_of(other).any()


def test_counts_of_a_learner_are_taken_back_and_restored():
    ids = torch.randint(0, 250, (3 * BLOCK + 1,), generator=torch.Generator().manual_seed(3)).numpy()
    whole, parts = (OnlineLearner(small(**COUNTS), 0.01, budget=0.5) for _ in range(2))

    def learn(learner: OnlineLearner, new: np.ndarray) -> None:
        learner.add(new, None)
        while learner.missing <= 0:
            learner.learn()

    learn(whole, ids)
    learn(parts, ids[: BLOCK + 1])
    before = table_of(parts.model).clone()
    parts.mark()
    learn(parts, ids[BLOCK + 1 :])
    assert not torch.equal(table_of(parts.model), before)
    parts.undo()
    assert torch.equal(table_of(parts.model), before)
    resumed = OnlineLearner(small(**COUNTS), 0.01, budget=0.5)
    resumed.restore(parts.tensors(), parts.numbers())
    learn(resumed, ids[BLOCK + 1 :])
    assert torch.equal(table_of(resumed.model), table_of(whole.model))
    for one, same in zip(resumed.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(one, same)
