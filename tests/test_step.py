"""The lean step is the model."""

import pytest
import torch
from helpers import error, randomise, state_error

from liquidlm.errors import LiquidError
from liquidlm.model.config import LiquidConfig
from liquidlm.model.pretrained import LiquidTextGenerationModel
from liquidlm.model.step import LiquidStep

SIZES = {"vocab_size": 64, "embedding_dim": 12, "latent_dim": 8, "hidden_size": 16}
SMALL = {"flow_hidden_dim": 8, "num_flows": 2, "num_heads": 2, "chunk_size": 8, "ngram_rows": 40}

NONLINEAR = {"mixer_types": ["nonlinear", "memory", "nonlinear", "time"]}
TIMED = {"time_scale": 3.0, "memory_scale": 50.0, "time_components": 4}


def build(**options):
    torch.manual_seed(0)
    config = LiquidConfig(**SIZES, **SMALL, **options)
    return randomise(LiquidTextGenerationModel(config)).double().eval()


@pytest.mark.parametrize("gap", [0.0, 1.0, 2.7, 1e6])
@pytest.mark.parametrize(
    "options", [{}, {"time_scale": 3.0}, {"conv_width": 1}, {"num_writes": 2}, NONLINEAR, TIMED]
)
def test_step_by_step_is_the_model(options, gap):
    model, mine, theirs = build(**options), None, None
    ids = torch.randint(3, 64, (3, 25), generator=torch.Generator().manual_seed(0))
    mine, theirs = (model(ids[:, :12]).state for _ in range(2))
    step = LiquidStep(model)
    for i in range(12, 25):
        logits = step(ids[:, i], mine, gap)
        whole = model(ids[:, i : i + 1], timestamps=theirs.last_time[:, None] + gap, past_key_values=theirs)
        assert error(logits, whole.logits[:, -1]) < 1e-11
    assert max(state_error(a, b) for a, b in zip(mine.states(), theirs.states(), strict=True)) < 1e-11
    assert mine.get_seq_length() == theirs.get_seq_length() == 25


def test_rows_may_have_their_own_gaps():
    model, ids = build(), torch.arange(3, 15).view(2, 6)
    both = model(ids).state
    logits = LiquidStep(model)(ids[:, 0], both, torch.tensor([0.5, 40.0], dtype=torch.float64))
    for row, gap in enumerate((0.5, 40.0)):
        alone = model(ids[row : row + 1]).state
        assert error(LiquidStep(model)(ids[row, :1], alone, gap), logits[row : row + 1]) < 1e-12


def test_the_features_of_the_next_gap():
    model, ids = build(**TIMED), torch.arange(3, 15).view(2, 6)
    mine, theirs = (model(ids).state for _ in range(2))
    times = theirs.last_time[:, None] + 2.0
    whole = model(ids[:, :1], timestamps=times, past_key_values=theirs).features[:, -1]
    assert error(LiquidStep(model).read(ids[:, 0], mine, 2.0)[1], whole) < 1e-12
    assert LiquidStep(build()).read(ids[:, 0], build()(ids).state)[1] is None


def test_low_precision_weights_step_in_float32():
    model = build().bfloat16()
    state = model(torch.arange(3, 13)[None]).state
    logits = LiquidStep(model)(torch.tensor([5]), state)
    assert logits.dtype == torch.float32 and logits.isfinite().all()


@pytest.mark.parametrize("options", [{}, TIMED])
def test_a_row_that_was_padding_so_far_begins(options):
    model, ids = build(**options), torch.arange(3, 15).view(2, 6)
    mask = torch.ones_like(ids)
    mask[0] = 0
    mine, theirs = (model(ids, mask).state for _ in range(2))
    logits = LiquidStep(model)(ids[:, 0], mine, 2.0)
    times = torch.tensor([[0.0], [7.0]], dtype=torch.float64)
    whole = model(ids[:, :1], timestamps=times, past_key_values=theirs).logits[:, -1]
    assert error(logits, whole) < 1e-12


@pytest.mark.parametrize("gap", [-0.5, float("nan"), float("inf")])
def test_time_does_not_go_back(gap):
    model = build()
    with pytest.raises(LiquidError, match="gap"):
        LiquidStep(model)(torch.tensor([5]), model(torch.arange(3, 13)[None]).state, gap)
