"""The embedding stage as a table: never older than the weights it is made of."""

from copy import deepcopy

import pytest
import torch
from helpers import error, randomise

from liquidlm import LiquidConfig, LiquidTextGenerationModel
from liquidlm.inference.generate import read, write
from liquidlm.inference.sampling import Sampling
from liquidlm.inference.surprise import SurpriseReader
from liquidlm.model.folded import FoldedEmbedding
from liquidlm.text.tokenizer import LEDTokenizerWrapper

TOKENIZER = LEDTokenizerWrapper.bytes()
SIZES = {"vocab_size": TOKENIZER.vocab_size, "embedding_dim": 12, "latent_dim": 8, "hidden_size": 16}
SMALL = {"flow_hidden_dim": 8, "num_flows": 2, "num_hidden_layers": 2, "ngram_rows": 0, "dropout_rate": 0.0}
IDS = torch.arange(40).view(2, 20) + 10


def tiny() -> LiquidTextGenerationModel:
    torch.manual_seed(0)
    return randomise(LiquidTextGenerationModel(LiquidConfig(**SIZES, **SMALL))).eval()


def train(model):
    optimiser = torch.optim.SGD(model.parameters(), 1.0)
    model.train()(IDS, labels=IDS).loss.backward()
    optimiser.step()
    model.eval()


def load(model):
    model.load_state_dict(randomise(deepcopy(model), seed=1).state_dict())


def point_elsewhere(model):
    other = randomise(deepcopy(model), seed=1)
    for mine, theirs in zip(model.parameters(), other.parameters(), strict=True):
        mine.data = theirs.data


def become_float64(model):
    randomise(model.double(), seed=1)


def resize(model):
    model.resize_token_embeddings(model.config.vocab_size + 3)
    randomise(model, seed=1)


CHANGES = [train, load, point_elsewhere, become_float64, resize]
more = pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)


def logits(model, state, **how):
    with torch.no_grad():
        return model(IDS[:, :3], past_key_values=state.copy(), **how).logits


def in_full(model, state):
    """What the state is followed by, of a model that never had a table."""
    return logits(deepcopy(model), state)


@more
def test_a_state_that_generate_has_read_into_goes_on_with_the_weights_of_now(change):
    model = tiny()
    state = model.generate(IDS, max_new_tokens=3, return_dict_in_generate=True).past_key_values
    before = logits(model, state)
    change(model)
    assert error(logits(model, state), in_full(model, state)) < 1e-6
    assert error(logits(model, state)[..., : before.shape[-1]], before) > 1e-2
    assert not hasattr(state, "table")


@more
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode], ids=["no_grad", "inference_mode"])
def test_a_table_that_a_reader_keeps_follows_its_weights(change, mode):
    model = tiny()
    table, state = FoldedEmbedding(model), model.new_state()
    with mode():
        read(model, IDS, state, table=table)
        assert table.rows() is table.rows()
    change(model)
    assert error(logits(model, state, table=table), in_full(model, state)) < 1e-6


@more
def test_a_text_is_written_with_the_weights_of_now(change):
    model, greedy, found = tiny(), Sampling(temperature=0.0), []
    state = model.new_state()
    read(model, IDS, state, table=FoldedEmbedding(model))
    change(model)
    for one in (model, deepcopy(model)):
        own = state.copy()
        found.append(torch.stack(list(write(one, logits(one, own)[:, -1], own, greedy, 8))))
    assert torch.equal(*found)


@more
def test_a_reader_of_lines_follows_its_model(change):
    model = tiny()
    reader = SurpriseReader(model, TOKENIZER)
    reader.push(b"one line\n")
    change(model)
    reader.copy_weights()
    fresh = SurpriseReader(deepcopy(model), TOKENIZER, reader.state.copy(), deepcopy(reader.position))
    bits = [line.bits for line in reader.push(b"and another\n")]
    assert bits == pytest.approx([line.bits for line in fresh.push(b"and another\n")], rel=1e-6)


def test_it_is_folded_once_for_a_whole_generation(monkeypatch):
    model, folds = tiny(), []
    fold = model.embedding.fold
    monkeypatch.setattr(model.embedding, "fold", lambda *a: folds.append(1) or fold(*a))
    model.generate(IDS, max_new_tokens=10)
    assert len(folds) == 1
    model.generate(IDS, max_new_tokens=10, use_cache=False)
    assert len(folds) == 2
    model.generate(IDS, max_new_tokens=10, num_beams=2)
    assert len(folds) == 3
    list(write(model, torch.zeros(1, model.config.vocab_size), read_state(model), Sampling(), 10))
    assert len(folds) == 4


def read_state(model):
    state = model.new_state()
    read(model, IDS[:1], state)
    return state
