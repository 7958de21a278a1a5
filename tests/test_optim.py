"""Which parameter is trained by what, and at what rate."""

from typing import Any

import pytest
import torch
from helpers import error

from liquidlm import LiquidConfig, LiquidError, LiquidTextGenerationModel
from liquidlm.optim import FAST, FAST_SHARE, Optimisers, liquid_optimisers

SIZES: dict[str, Any] = {
    "vocab_size": 20,
    "embedding_dim": 8,
    "latent_dim": 4,
    "hidden_size": 16,
    "num_hidden_layers": 2,
}


def test_every_parameter_is_trained_once_and_some_faster():
    model = LiquidTextGenerationModel(LiquidConfig(**{**SIZES, "time_components": 2}))
    names = {id(p): name for name, p in model.named_parameters()}
    (muon, lr), (adamw, slow), (quick, fast) = liquid_optimisers(model, lr=0.02).parts
    trained = [
        [names.pop(id(p)) for g in part.param_groups for p in g["params"]] for part in (muon, adamw, quick)
    ]
    assert not names
    assert all(name.startswith("blocks.") and name.endswith("weight") for name in trained[0])
    assert all(name.endswith(FAST) for name in trained[2])
    assert len(trained[2]) == 2 * len(model.blocks) + 1 + 3
    assert not any("rates" in name or "warp" in name for name in trained[0])
    assert (lr, slow, fast) == pytest.approx((0.02, 0.003, 0.003 * FAST_SHARE))


def test_the_schedule_warms_up_and_ends_at_zero():
    weight = torch.nn.Parameter(torch.ones(1))
    optimisers = Optimisers([(torch.optim.SGD([weight], lr=9.0), 0.5)], warmup=4)
    factors, moved = [], []
    for step in range(10):
        before = weight.item()
        weight.grad = torch.ones(1)
        factors.append(optimisers.step(step, step / 10))
        moved.append(before - weight.item())
        assert weight.grad is None
    assert factors == pytest.approx([0.25, 0.45, 0.6, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])
    assert error(torch.tensor(moved), 0.5 * torch.tensor(factors)) < 1e-6


@pytest.mark.parametrize("lr", [0.0, -1.0, float("nan"), 20.0])
def test_a_senseless_rate_is_refused(lr):
    with pytest.raises(LiquidError, match="learning rate"):
        liquid_optimisers(LiquidTextGenerationModel(LiquidConfig(**SIZES)), lr=lr)
