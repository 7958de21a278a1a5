"""The kernel of the liquid neuron against the loop that defines it: outputs and all gradients."""

import pytest
import torch
from native import assert_same, needs_kernels, with_gradients

from liquidlm.ops import liquid_relax, liquid_relax_reference
from liquidlm.ops.native import liquid_relax_native

pytestmark = needs_kernels


def inputs(rows, length, width, dtype=torch.float32, starts=True, seed=0):
    """Random inputs, with gaps of 0 and of 10,000 among the others."""
    g = torch.Generator().manual_seed(seed)
    synapse = (3 * torch.randn(rows, length, 2 * width, generator=g)).to(dtype)
    duration = 3 * torch.rand(rows, length, generator=g)
    kind = torch.rand(rows, length, generator=g)
    duration[kind < 0.2], duration[kind > 0.9] = 0.0, 1e4
    leak, pace = torch.rand(width, generator=g), torch.rand(width, generator=g) + 0.05
    h0 = torch.randn(rows, width, generator=g)
    return [synapse, leak, duration, pace, h0, kind < 0.1 if starts else None]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("rows", "length", "width"),
    [(1, 1, 1), (1, 2, 3), (2, 7, 5), (3, 33, 16), (2, 65, 63), (1, 129, 64), (2, 10, 65), (4, 31, 130)],
)
def test_outputs_and_all_gradients(rows, length, width, dtype):
    given = inputs(rows, length, width, dtype)
    truth = with_gradients(liquid_relax_reference, given, torch.float64)
    found = with_gradients(liquid_relax_native, given)
    if dtype == torch.bfloat16:  # the gradient of a synapse in bfloat16 is rounded to it
        assert_same(found[1:2], truth[1:2], 4e-3)
        found, truth = found[:1] + found[2:], truth[:1] + truth[2:]
    assert_same(found, truth, 2e-6)


def test_no_starts_and_other_layouts():
    synapse, *rest = inputs(2, 9, 24, starts=False)
    turned = synapse.mT.contiguous().mT
    assert not turned.is_contiguous()
    truth = with_gradients(liquid_relax_reference, [synapse, *rest], torch.float64)
    assert_same(with_gradients(liquid_relax_native, [turned, *rest]), truth, 2e-6)


@pytest.mark.parametrize("gap", [0.0, 1e30, float("inf")])
def test_gaps_at_the_ends(gap):
    """At an infinite gap h is the equilibrium, and no gradient is NaN."""
    synapse, leak, duration, *rest = inputs(1, 4, 8, starts=False)
    duration[:, 2] = gap
    found = with_gradients(liquid_relax_native, [synapse, leak, duration, *rest])
    assert all(x.isfinite().all() for x in found)
    truth = liquid_relax_reference(synapse, leak, duration, *rest)
    assert_same(found[:1], [truth.double()], 2e-6)


def test_the_same_bits_on_every_run():
    given = inputs(3, 50, 100)
    once, again = (with_gradients(liquid_relax_native, given) for _ in range(2))
    assert all(torch.equal(x, y) for x, y in zip(once, again, strict=True))


def test_threads_change_no_more_than_the_last_places(monkeypatch):
    given = inputs(3, 50, 200)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    one = with_gradients(liquid_relax_native, given)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert_same(with_gradients(liquid_relax_native, given), one, 1e-6)


def test_float64_stays_with_torch():
    given = [x.double() if x is not None and x.is_floating_point() else x for x in inputs(2, 9, 4)]
    assert torch.equal(liquid_relax(*given), liquid_relax(*given))
    torch.testing.assert_close(liquid_relax(*given), liquid_relax_reference(*given))
