"""What several test files share: random parameters and inputs, closeness as a figure, mixers over events."""

import math

import torch
from torch import Tensor

from liquidlm.nn.cells import AsyncLiquidCell


def randomise(module, seed: int = 0, scale: float = 0.3):
    """The module with noise on every parameter, so that no test holds at an initial identity only."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(scale * noise.to(parameter.dtype))
    return module


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Standard normal numbers of their own seed."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def uniform(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Uniform numbers in [0, 1) of their own seed."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def error(a: Tensor, b: Tensor) -> float:
    """The largest difference, relative to the size of b where that is above 1; infinite where not finite."""
    assert a.shape == b.shape, (a.shape, b.shape)
    if not (a.isfinite().all() and b.isfinite().all()):
        return float("inf")
    return ((a - b).abs().max() / b.abs().max().clamp(min=1.0)).item() if a.numel() else 0.0


def gradients(outputs: tuple[Tensor, ...], inputs: tuple[Tensor, ...], seed: int = 0) -> tuple[Tensor, ...]:
    """Gradients of a fixed random projection of all outputs."""
    total = sum((y * normal(*y.shape, seed=seed + i, dtype=y.dtype)).sum() for i, y in enumerate(outputs))
    return torch.autograd.grad(total, inputs)


# ---- mixers over events

HIDDEN = 8


def mixer(kind, seed: int = 0, dropout: float = 0.0, **options):
    """A mixer of this kind with random parameters, float64; chunks shorter than the tests'."""
    torch.manual_seed(seed)
    if kind is AsyncLiquidCell:
        options = {"num_heads": 2, "chunk_size": 16} | options
    return randomise(kind(HIDDEN, dropout, **options), seed).double()


def event_times(batch: int, length: int, seed: int = 0) -> Tensor:
    """Irregular times: gaps of 0, around 1, and some of 1e4."""
    gaps = -uniform(batch, length, seed=seed).log()
    chance = uniform(batch, length, seed=seed + 1)
    gaps[chance < 0.2] = 0.0
    gaps[chance > 0.95] = 1e4
    return 1e3 * uniform(batch, 1, seed=seed + 2) + gaps.cumsum(1)


def inputs(batch: int, length: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """(x, timestamps) of random events."""
    return normal(batch, length, HIDDEN, seed=seed), event_times(batch, length, seed + 1)


def run(cell, x, timestamps=None, h=None, mask=None, starts=None):
    """(h, state) of a mixer."""
    out, _, state = cell(x, timestamps, h, mask, starts=starts, return_state=True)
    return out, state


def rows(state, i):
    """The state of some rows."""
    return state.map(lambda part: part[i])


def state_error(a, b) -> float:
    """Largest difference of any part of two states, whose times must be the same."""
    assert torch.equal(a.time, b.time)
    assert [part is None for part in a] == [part is None for part in b]
    assert a.past_ids is None or torch.equal(a.past_ids, b.past_ids)
    return max(error(p, q) for p, q in zip(a[:3], b[:3], strict=True) if p is not None)


# Padding on the left, on the right, within, and here and there: 12 of 16 positions are real.
LEFT, RIGHT = [0] * 4 + [1] * 12, [1] * 12 + [0] * 4
MIDDLE, MIXED = [1] * 5 + [0] * 4 + [1] * 7, [0] + [1, 0] * 3 + [1] * 9


def padded(x: Tensor, timestamps: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """x and timestamps at the mask's real positions, garbage and NaN times at the others."""
    wide, wide_times = 1e3 * normal(*mask.shape, HIDDEN, seed=77), 1e6 * normal(*mask.shape, seed=78)
    wide_times[:, ::3] = math.nan
    wide[mask], wide_times[mask] = x.flatten(0, 1), timestamps.flatten()
    return wide, wide_times
