"""Which parameter is trained by what, and at what rate."""

from typing import Any

import pytest
import torch
from helpers import error, normal
from torch.optim import _muon

from liquidlm import LiquidConfig, LiquidError, LiquidTextGenerationModel
from liquidlm.training import muon
from liquidlm.training.groups import FAST, FAST_SHARE, OUTPUT_SHARE, TABLE_SHARE
from liquidlm.training.muon import Muon, orthogonalized
from liquidlm.training.optim import (
    Optimisers,
    clip_gradients,
    liquid_optimisers,
    muon_and_adamw,
)

SIZES: dict[str, Any] = {
    "vocab_size": 20,
    "embedding_dim": 8,
    "latent_dim": 4,
    "hidden_size": 16,
    "num_hidden_layers": 2,
}


@pytest.mark.parametrize(("tied", "vocabulary"), [(True, 20), (True, 600), (False, 512), (False, 513)])
def test_every_parameter_is_trained_once_at_the_rate_of_its_kind(tied, vocabulary):
    sizes = {
        **SIZES,
        "vocab_size": vocabulary,
        "ngram_rows": 40,
        "time_components": 2,
        "tie_word_embeddings": tied,
        "embedding_dim": 16,
    }
    model = LiquidTextGenerationModel(LiquidConfig(**sizes))
    names = {id(p): name for name, p in model.named_parameters()}
    rates, trained = [], []
    parts = liquid_optimisers(model, lr=0.02, weight_decay=0.5).parts
    decays = [{group["weight_decay"] for group in part.param_groups} for part, _ in parts]
    assert decays == [{0.5}, *[{0.0}] * (len(parts) - 1)]
    for part, rate in parts:
        rates.append(rate)
        trained.append([names.pop(id(p)) for group in part.param_groups for p in group["params"]])
    assert not names
    words = vocabulary > 512
    quick = [(["embedding.embedding.weight"], TABLE_SHARE)] * (words or tied)
    quick += [(["output_proj.weight"], OUTPUT_SHARE)] * (words and not tied)
    by_muon, others, *between, fast = trained
    assert between == [names for names, _ in quick]
    shares = [1, *(share for _, share in quick), FAST_SHARE]
    assert rates == pytest.approx([0.02] + [0.003 * share for share in shares])
    assert all(name.startswith("blocks.") and name.endswith("weight") for name in by_muon)
    assert not any("rates" in name or "warp" in name for name in by_muon)
    assert all(name.endswith(FAST) for name in fast)
    assert len(fast) == 2 * len(model.blocks) + 1 + 3
    assert "embedding.gain" in others and "norm.weight" in others


def test_the_state_of_other_parameters_is_refused():
    first, other = (
        Optimisers([(torch.optim.AdamW([torch.nn.Parameter(torch.ones(*shape))], lr=0.1), 0.1)])
        for shape in ((3, 4), (4, 3))
    )
    for optimisers in (first, other):
        for group in optimisers.parts[0][0].param_groups:
            group["params"][0].grad = torch.ones_like(group["params"][0])
        optimisers.step(0, 0.0)
    first.load_tensors(first.tensors())
    with pytest.raises(ValueError, match=r"is \(4, 3\), not \(3, 4\)"):
        first.load_tensors(other.tensors())
    with pytest.raises(IndexError):
        first.load_tensors({key.replace("0.0.", "0.1."): value for key, value in first.tensors().items()})


SHAPES = [(16, 24), (24, 16), (16, 24), (16, 16), (24, 16), (8, 40)]


@pytest.mark.parametrize(("bf16", "apart"), [(True, 0.005), (False, 1e-5)])
@pytest.mark.parametrize("together", [1, 2**22])
def test_muon_is_torchs_with_our_iteration(bf16, apart, together, monkeypatch):
    """How far three steps move each matrix."""
    monkeypatch.setattr(muon, "TOGETHER", together)
    dtype = torch.bfloat16 if bf16 else torch.float32
    monkeypatch.setattr(
        _muon, "_zeropower_via_newtonschulz", lambda x, *_: orthogonalized(x[None].to(dtype))[0].float()
    )
    starts = [normal(*shape, seed=i, dtype=torch.float32) for i, shape in enumerate(SHAPES)]
    theirs, ours = ([torch.nn.Parameter(start.clone()) for start in starts] for _ in range(2))
    options = {"lr": 0.02, "weight_decay": 0.1, "momentum": 0.95}
    optimisers = torch.optim.Muon(theirs, **options), Muon(ours, bf16=bf16, **options)
    for step in range(3):
        for a, b in zip(theirs[:-1], ours[:-1], strict=True):  # the last has no gradient
            a.grad = normal(*a.shape, seed=50 + step, dtype=torch.float32)
            b.grad = a.grad.clone()
        for optimiser in optimisers:
            optimiser.step()
    for a, b, start in zip(theirs[:-1], ours[:-1], starts[:-1], strict=True):
        moved = a.detach() - start
        assert (b.detach() - start - moved).norm() < apart * moved.norm()
    assert torch.equal(ours[-1], starts[-1])
    ours_state, state = (optimiser.state_dict()["state"] for optimiser in optimisers[::-1])
    assert set(ours_state) == set(state) == set(range(5))
    for number, slots in state.items():
        assert torch.equal(ours_state[number]["momentum_buffer"], slots["momentum_buffer"])


def test_muon_calls_its_closure_first():
    weight = torch.nn.Parameter(torch.eye(3))
    optimiser = Muon([weight], lr=0.1, weight_decay=0.0, momentum=0.95, bf16=False)

    def closure():
        loss = weight.square().sum()
        loss.backward()
        return loss

    assert optimiser.step(closure) == 3.0
    assert float(weight.detach().trace()) < 2.9


@pytest.mark.parametrize("shape", [(2, 12, 20), (3, 20, 12), (1, 16, 16)])
def test_orthogonalized_keeps_singular_vectors_and_levels_values(shape):
    torch.manual_seed(0)
    x = torch.randn(shape, dtype=torch.float64)
    u, s, vt = torch.linalg.svd(x, full_matrices=False)
    s = s.clamp(min=0.1)
    made = orthogonalized(u * s[:, None] @ vt)
    levels = u.mT @ made @ vt.mT
    values = levels.diagonal(dim1=1, dim2=2)
    assert float(values.min()) > 0.77 and float(values.max()) < 1.23
    assert error(levels, torch.diag_embed(values)) < 1e-12


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("size", [1e-5, 1.0, 1e12])
def test_orthogonalized_stays_bounded_where_all_is_one_direction(dtype, size):
    """Its norm is then the largest singular value itself, where the first polynomial is steepest."""
    torch.manual_seed(0)
    left, right = torch.randn(64, 40, 1), torch.randn(64, 1, 56)
    made = orthogonalized((size * left @ right).to(dtype)).float()
    exact = left @ right / left.norm(dim=1, keepdim=True) / right.norm(dim=2, keepdim=True)
    along = (made * exact).sum((1, 2))
    assert float(along.min()) > 0.7 and float(along.max()) < 1.3
    assert not orthogonalized(torch.zeros(1, 4, 6, dtype=dtype)).any()


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


def test_only_matrices_decay():
    matrix, vector = (torch.nn.Parameter(torch.ones(shape)) for shape in ((3, 2), (3,)))
    optimisers = muon_and_adamw([matrix], [vector], lr=0.1, weight_decay=0.5, warmup=1, bf16=False)
    matrix.grad, vector.grad = torch.zeros(3, 2), torch.zeros(3)
    optimisers.step(0, 0.0)
    assert torch.equal(vector, torch.ones(3)) and torch.allclose(matrix, torch.full((3, 2), 0.95))


def test_gradients_are_clipped_to_norm_1():
    parameters = [torch.nn.Parameter(torch.zeros(2)) for _ in range(2)]
    for long, expected in ((6.0, 1.0), (0.05, 0.5)):
        for parameter in parameters:
            parameter.grad = torch.full((2,), long * 5)
        norm = clip_gradients(parameters)
        assert norm == pytest.approx(10 * long)
        clipped = torch.cat([parameter.grad for parameter in parameters]).norm()
        assert clipped.item() == pytest.approx(expected, rel=1e-4)
