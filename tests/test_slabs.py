"""Operations that work in slabs give the same, and the same gradients, whatever a slab's size."""

import pytest
import torch
from helpers import error, gradients, normal, uniform

from liquidlm.ops import (
    delta_memory_chunked,
    delta_memory_reference,
    liquid_relax_fused,
    liquid_relax_reference,
    liquid_scan_chunked,
    liquid_scan_reference,
    short_conv_reference,
    short_conv_shifted,
)

B, T, H, W = 2, 23, 4, 4
STARTS = torch.zeros(B, T, dtype=torch.bool)
STARTS[0, 10] = STARTS[1, 3] = STARTS[1, 18] = True


def convolution(form, starts):
    inputs = (normal(B, T, H), normal(H, W, seed=1), normal(B, W - 1, H, seed=2))
    inputs += (normal(B, T, seed=3), normal(H, seed=4))
    segment = STARTS.cumsum(1).double() if starts else None
    return inputs, lambda x, weight, tail, *rest: (form(x, weight, tail, segment, *rest),)


def relaxation(form, starts):
    inputs = (normal(B, T, 2 * H), uniform(H, seed=1) + 0.1, 3 * uniform(B, T, seed=2))
    inputs += (uniform(H, seed=3) + 0.2, normal(B, H, seed=4))
    return inputs, lambda *given: (form(*given, STARTS if starts else None),)


def recurrence(form, starts):
    decay = uniform(B, T, H).masked_fill(STARTS[..., None] if starts else torch.zeros(()).bool(), 0.0)
    return (decay, normal(B, T, H, seed=1), normal(B, H, seed=2)), lambda *given: (form(*given),)


def memory(form, starts):
    q, k, v = (normal(B, T, 2, width, seed=i) for i, width in enumerate((3, 3, 5)))
    k = k / k.norm(dim=-1, keepdim=True)
    decay, write = -uniform(B, T, 2, seed=3), uniform(B, T, 2, seed=4)
    reset = STARTS[..., None] if starts else torch.zeros(()).bool()
    chunk = (4,) if form is delta_memory_chunked else ()

    def run(q, k, v, decay, write, state):
        return form(q, k, v, decay.masked_fill(reset, -torch.inf), write, state, *chunk)

    return (q, k, v, decay, write, normal(B, 2, 3, 5, seed=5)), run


FORMS = {
    convolution: (short_conv_shifted, short_conv_reference),
    relaxation: (liquid_relax_fused, liquid_relax_reference),
    recurrence: (liquid_scan_chunked, liquid_scan_reference),
    memory: (delta_memory_chunked, delta_memory_reference),
}


@pytest.mark.parametrize("starts", [False, True])
@pytest.mark.parametrize("rows", [2, 9, 1024])
@pytest.mark.parametrize("operation", FORMS)
def test_a_slab_s_size_changes_nothing(operation, rows: int, starts: bool, monkeypatch) -> None:
    monkeypatch.setattr("liquidlm.ops.slabs.ROWS", rows)
    found = []
    for form in FORMS[operation]:
        inputs, run = operation(form, starts)
        inputs = tuple(x.clone().requires_grad_() for x in inputs)
        outputs = run(*inputs)
        found.append((*outputs, *gradients(outputs, inputs)))
    assert all(error(mine, true) < 1e-10 for mine, true in zip(*found, strict=True))
