"""The output layer that is the embedding's table."""

import pytest
import torch
from helpers import error, randomise
from safetensors import safe_open

from liquidlm import LiquidConfig, LiquidTextGenerationModel
from liquidlm.errors import LiquidError
from liquidlm.model.step import LiquidStep
from liquidlm.nn import embedding
from liquidlm.training.optim import liquid_optimisers

SIZES = {"vocab_size": 64, "embedding_dim": 16, "latent_dim": 8, "hidden_size": 16, "num_hidden_layers": 2}
SMALL = {"flow_hidden_dim": 8, "num_flows": 2, "num_heads": 2, "chunk_size": 8, "ngram_rows": 40}
TIED = {"tie_word_embeddings": True}


def build(**options):
    """Random parameters, float64."""
    torch.manual_seed(0)
    config = LiquidConfig(**{**SIZES, **SMALL, **TIED, "dropout_rate": 0.0, **options})
    return randomise(LiquidTextGenerationModel(config)).double().eval()


def tokens(length=20):
    return torch.randint(3, 64, (2, length), generator=torch.Generator().manual_seed(0))


def test_it_is_where_it_is_asked_for():
    assert LiquidConfig(**SIZES).tie_word_embeddings is False
    for tied in (True, False):
        model = build(tie_word_embeddings=tied)
        assert (model.output_proj.weight is model.embedding.embedding.weight) is tied


def test_other_widths_are_an_error_that_names_them():
    with pytest.raises(LiquidError, match=r"embedding_dim \(12\).*hidden_size \(16\)"):
        LiquidConfig(**{**SIZES, "embedding_dim": 12}, tie_word_embeddings=True)


def test_logits_begin_as_small_as_without():
    torch.manual_seed(0)
    sizes = {**SIZES, **SMALL, "hidden_size": 64, "embedding_dim": 64, "vocab_size": 500}
    for tied in (True, False):
        model = LiquidTextGenerationModel(LiquidConfig(**sizes, tie_word_embeddings=tied)).eval()
        assert 0.1 < model(torch.randint(0, 500, (4, 50))).logits.std() < 1.5


def test_the_table_has_the_gradients_of_both_uses():
    model, twin = build(), build(tie_word_embeddings=False)
    weights = model.state_dict()
    twin.load_state_dict(weights)
    for each in (model, twin):
        each(tokens(), labels=tokens()).loss.backward()
    table, one, other = (
        m.grad for m in (model.output_proj.weight, twin.embedding.embedding.weight, twin.output_proj.weight)
    )
    assert one.abs().max() > 1e-4 and other.abs().max() > 1e-4
    assert error(table, one + other) < 1e-12


def test_it_is_saved_once_and_tied_again_when_read(tmp_path):
    model = build()
    model.save_pretrained(tmp_path)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert "embedding.embedding.weight" in file.keys() and "output_proj.weight" not in file.keys()  # noqa: SIM118
    read = LiquidTextGenerationModel.from_pretrained(tmp_path, dtype=torch.float64)
    assert read.output_proj.weight is read.embedding.embedding.weight
    assert error(read(tokens()).logits, model(tokens()).logits) < 1e-12


def test_models_that_were_not_tied_are_read_as_they_are(tmp_path):
    model = build(tie_word_embeddings=False)
    model.save_pretrained(tmp_path)
    read = LiquidTextGenerationModel.from_pretrained(tmp_path, dtype=torch.float64)
    assert read.output_proj.weight is not read.embedding.embedding.weight
    assert error(read(tokens()).logits, model(tokens()).logits) < 1e-12


def test_the_vocabulary_grows_for_both():
    model, ids = build(), tokens()
    before = model(ids).logits
    model.resize_token_embeddings(70, mean_resizing=False)
    assert (
        model.output_proj.weight is model.embedding.embedding.weight and len(model.output_proj.weight) == 70
    )
    assert error(model(ids).logits[..., :64], before) < 1e-12


def test_the_lean_step_is_the_model():
    model, ids = build(), tokens()
    with torch.no_grad():
        state, whole = model(ids[:, :15]).state, model(ids).logits[:, 15:]
        step = LiquidStep(model)
        steps = torch.stack([step(token, state) for token in ids[:, 15:].unbind(1)], 1)
    assert error(steps, whole) < 1e-12


@pytest.mark.parametrize("followed", [True, False])
def test_tokens_that_are_never_read_survive_the_flow(followed, monkeypatch):
    """Training on a sixth of the vocabulary moves all rows of a tied table: the flow has to follow them."""
    if not followed:
        monkeypatch.setattr(embedding, "RANDOM_IDS", 0)
    torch.manual_seed(0)
    sizes = {**SIZES, **SMALL, **TIED, "vocab_size": 120, "latent_dim": 12, "num_hidden_layers": 1}
    model = LiquidTextGenerationModel(LiquidConfig(**sizes)).train()
    optimisers = liquid_optimisers(model, 0.02, bf16=False)
    for step in range(150):
        model(ids := torch.randint(0, 20, (4, 16)), labels=ids).loss.backward()
        optimisers.step(step, step / 150)
    survival = model.embedding.round_trip_survival()
    assert survival > 0.9 if followed else survival < 0.5


def test_the_same_ids_draw_the_same_of_the_vocabulary():
    ids = tokens()
    drawn = embedding.with_random_ids(ids, 64)
    assert torch.equal(drawn, embedding.with_random_ids(ids.clone(), 64))
    assert torch.equal(drawn[: ids.numel()], ids.flatten())
    assert not torch.equal(drawn[ids.numel() :], embedding.with_random_ids(ids + 1, 64)[ids.numel() :])
    assert int(drawn.min()) >= 0 and int(drawn.max()) < 64


def test_padding_is_no_part_of_what_the_flow_learns_from():
    sizes = {**SIZES, **SMALL, **TIED, "vocab_size": 2000, "dropout_rate": 0.0}
    torch.manual_seed(0)
    model, ids = LiquidTextGenerationModel(LiquidConfig(**sizes)).double().train(), tokens()
    without = model(ids).flow_loss
    for padding in (1, 2):
        padded = torch.cat([ids, torch.full((2, 4), padding)], 1)
        mask = torch.ones_like(padded).index_fill_(1, torch.arange(20, 24), 0)
        assert error(model(padded, attention_mask=mask).flow_loss, without) < 1e-12
    assert error(model(padded).flow_loss, without) > 1e-4
