"""Documents in one row, told apart by their position_ids."""

import pytest
import torch
from helpers import error, randomise
from transformers import DataCollatorWithFlattening

from liquidlm import LiquidConfig, LiquidError, LiquidTextGenerationModel
from liquidlm.model.labels import document_starts

FIRST, SECOND = torch.tensor([[5, 9, 3, 7, 7, 4]]), torch.tensor([[8, 3, 6, 11, 5]])
BOTH = torch.cat([FIRST, SECOND], 1)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    sizes = {"vocab_size": 32, "embedding_dim": 12, "latent_dim": 6, "hidden_size": 16, "ngram_rows": 20}
    config = LiquidConfig(**sizes, num_hidden_layers=2, dropout_rate=0.0)
    return randomise(LiquidTextGenerationModel(config), 1, 0.2).double().eval()


@pytest.mark.parametrize("begin", [0, 1, 2, 1000])
def test_a_document_starts_where_a_position_does_not_follow_the_one_before(model, begin):
    positions = torch.tensor([[*range(begin, begin + 6), *range(begin, begin + 5)]])
    packed = model(BOTH, position_ids=positions).logits
    assert error(packed, torch.cat([model(FIRST).logits, model(SECOND).logits], 1)) < 1e-12
    assert error(packed, model(BOTH).logits) > 1e-3


def test_rows_of_the_collator_whose_positions_start_at_2(model):
    texts = [{"input_ids": ids[0].tolist()} for ids in (FIRST, SECOND)]
    batch = DataCollatorWithFlattening(position_ids_start=2)(texts)
    assert batch["position_ids"][0, 0] == 2
    labels = batch.pop("labels")
    found = model(**batch, labels=labels)
    assert error(found.logits, torch.cat([model(FIRST).logits, model(SECOND).logits], 1)) < 1e-12
    alone = (5 * model(FIRST, labels=FIRST).loss + 4 * model(SECOND, labels=SECOND).loss) / 9
    assert error(found.loss, alone) < 1e-12


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("at_padding", [0, 1])
def test_positions_at_padding_start_nothing(model, side, at_padding):
    """As `generate()` counts: over the tokens that are real, with any number where they are not."""
    padding = torch.full((1, 2), 9)
    ids = torch.cat([padding, FIRST] if side == "left" else [FIRST, padding], 1)
    mask = torch.ones_like(ids)
    mask[:, slice(0, 2) if side == "left" else slice(6, None)] = 0
    positions = (mask.cumsum(1) - 1).masked_fill(mask == 0, at_padding)
    found = model(ids, attention_mask=mask, position_ids=positions).logits[mask.bool()]
    assert error(found, model(FIRST).logits[0]) < 1e-12


def test_positions_that_go_on_from_a_state_start_nothing(model):
    state, whole = model.new_state(), model(BOTH).logits
    for part in (slice(0, 4), slice(4, 5), slice(5, 11)):
        positions = torch.arange(part.start, part.stop)[None]
        found = model(BOTH[:, part], position_ids=positions, past_key_values=state).logits
        assert error(found, whole[:, part]) < 1e-12


def test_a_position_of_0_is_a_start_beside_a_state_too(model):
    state = model(FIRST).state
    found = model(SECOND, position_ids=torch.arange(5)[None], past_key_values=state).logits
    assert error(found, model(SECOND).logits) < 1e-12


def test_rows_differ_in_where_their_documents_start():
    positions = torch.tensor([[3, 4, 3, 4], [0, 1, 2, 3]])
    starts = document_starts(None, positions, None, torch.zeros(2, 4), None)
    assert starts is not None and starts.tolist() == [
        [False, False, True, False],
        [True, False, False, False],
    ]


@pytest.mark.parametrize("shape", [(11,), (2, 11), (1, 10), (3, 1, 11)])
def test_positions_of_another_shape_are_refused(model, shape):
    with pytest.raises(LiquidError, match=r"position_ids must have the shape of the tokens, \(1, 11\)"):
        model(BOTH, position_ids=torch.zeros(shape, dtype=torch.long))
