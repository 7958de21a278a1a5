"""The kernel of the nonlinear neuron against the loop that defines it: outputs and all gradients."""

import pytest
import torch
from native import assert_same, needs_kernels, with_gradients

from liquidlm.ops import nonlinear_relax, nonlinear_relax_reference
from liquidlm.ops.native import nonlinear_relax_native

pytestmark = needs_kernels


def inputs(rows, length, width, context, dtype=torch.float32, starts=True):
    """Random inputs, with gaps of 0 and of 10,000 among the others."""
    g = torch.Generator().manual_seed(0)
    encoded = torch.randn(rows, length, context, generator=g).to(dtype)
    synapse = (2 * torch.randn(rows, length, 2 * width, generator=g)).to(dtype)
    of_state = torch.randn(context, width, generator=g) / width**0.5
    of_context = torch.randn(2 * width, context, generator=g) / context**0.5
    duration = 3 * torch.rand(rows, length, generator=g)
    kind = torch.rand(rows, length, generator=g)
    duration[kind < 0.2], duration[kind > 0.9] = 0.0, 1e4
    leak, pace = torch.rand(width, generator=g), torch.rand(width, generator=g) + 0.05
    h0 = torch.randn(rows, width, generator=g)
    return [encoded, synapse, of_state, of_context, leak, duration, pace, h0, kind < 0.1 if starts else None]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("rows", "length", "width", "context"),
    [
        (1, 1, 1, 1),
        (1, 2, 3, 5),
        (2, 7, 5, 1),
        (3, 33, 16, 33),
        (4, 5, 63, 8),
        (7, 9, 65, 64),
        (9, 3, 31, 20),
        (16, 17, 32, 32),
        (19, 4, 130, 40),
    ],
)
def test_outputs_and_all_gradients(rows, length, width, context, dtype):
    given = inputs(rows, length, width, context, dtype)
    truth = with_gradients(nonlinear_relax_reference, given, torch.float64)
    found = with_gradients(nonlinear_relax_native, given)
    if dtype == torch.bfloat16:  # gradients of what is in bfloat16, and products of them, are rounded to it
        assert_same(found[1:5], truth[1:5], 8e-3)
        found, truth = found[:1] + found[5:], truth[:1] + truth[5:]
    assert_same(found, truth, 3e-6)


def test_no_starts_and_other_layouts():
    encoded, synapse, of_state, of_context, *rest = inputs(2, 9, 24, 7, starts=False)
    turned = [x.mT.contiguous().mT for x in (encoded, synapse, of_state, of_context)]
    assert not any(x.is_contiguous() for x in turned)
    given = [encoded, synapse, of_state, of_context, *rest]
    truth = with_gradients(nonlinear_relax_reference, given, torch.float64)
    assert_same(with_gradients(nonlinear_relax_native, [*turned, *rest]), truth, 3e-6)


@pytest.mark.parametrize("gap", [0.0, 1e30, float("inf")])
def test_gaps_at_the_ends(gap):
    """At an infinite gap h is the equilibrium, and no gradient is NaN."""
    given = inputs(1, 4, 8, 3, starts=False)
    given[5][:, 2] = gap
    found = with_gradients(nonlinear_relax_native, given)
    assert all(x.isfinite().all() for x in found)
    assert_same(found[:1], [nonlinear_relax_reference(*given).double()], 2e-6)


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
@pytest.mark.parametrize("rows", [1, 2, 3, 11])
def test_the_same_bits_on_every_run_and_threads_change_no_more_than_the_last_places(
    monkeypatch, rows, threads
):
    given = inputs(rows, 20, 100, 50)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    one = with_gradients(nonlinear_relax_native, given)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    once, again = (with_gradients(nonlinear_relax_native, given) for _ in range(2))
    assert all(torch.equal(x, y) for x, y in zip(once, again, strict=True))
    assert_same(once, one, 2e-6)


def test_without_gradients_nothing_is_kept_and_the_result_is_the_same():
    given = inputs(2, 6, 10, 4)
    with torch.no_grad():
        h = nonlinear_relax_native(*given)
    assert not h.requires_grad
    assert torch.equal(h.double(), with_gradients(nonlinear_relax_native, given)[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_operation_is_the_loop(dtype):
    given = [x.to(dtype) if x is not None and x.is_floating_point() else x for x in inputs(2, 9, 4, 6)]
    with torch.autocast("cpu", torch.bfloat16):
        found = nonlinear_relax(*given)
    torch.testing.assert_close(found, nonlinear_relax_reference(*given))
