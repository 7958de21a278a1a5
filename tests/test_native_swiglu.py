"""The kernel of the gated MLP's product against torch: outputs and both gradients."""

import pytest
import torch
from native import assert_same, needs_kernels, with_gradients

from liquidlm.ops import swiglu, swiglu_reference
from liquidlm.ops.native import swiglu_native

pytestmark = needs_kernels
BOUND = {torch.float32: 2e-6, torch.bfloat16: 8e-3}  # bfloat16: the gradient of y is rounded too


def inputs(*shape, dtype=torch.float32, scale=4.0):
    g = torch.Generator().manual_seed(len(shape))
    return [(scale * torch.randn(shape, generator=g)).to(dtype) for _ in range(2)]


@pytest.mark.parametrize("dtype", list(BOUND))
@pytest.mark.parametrize(
    "shape", [(0,), (1,), (3, 5), (2, 3, 16), (7, 33), (2, 63, 65), (1, 4097), (3, 4096)]
)
def test_output_and_both_gradients(shape, dtype):
    given = inputs(*shape, dtype=dtype)
    truth = with_gradients(swiglu_reference, given, torch.float64)
    assert_same(with_gradients(swiglu_native, given), truth, BOUND[dtype])


def test_gates_far_open_and_far_closed():
    gate, up = torch.tensor([-1e30, -100.0, -88.0, 0.0, 88.0, 100.0, 1e30]), torch.ones(7)
    truth = with_gradients(swiglu_reference, [gate, up], torch.float64)
    found = with_gradients(swiglu_native, [gate, up])
    for x, y in zip(found, truth, strict=True):
        torch.testing.assert_close(x, y, rtol=2e-6, atol=1e-30)


def test_other_layouts():
    gate, up = inputs(6, 20)
    truth = with_gradients(swiglu_reference, [gate, up], torch.float64)
    assert_same(with_gradients(swiglu_native, [gate.mT.contiguous().mT, up]), truth, 2e-6)


def test_the_same_bits_with_any_number_of_threads(monkeypatch):
    given = inputs(50, 333)
    results = []
    for threads in (1, 1, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        results.append(with_gradients(swiglu_native, given))
    for other in results[1:]:
        assert all(torch.equal(x, y) for x, y in zip(results[0], other, strict=True))


def test_other_types_stay_with_torch():
    gate, up = inputs(4, 6)
    for x, y in ((gate.double(), up.double()), (gate.half(), up.half()), (gate.bfloat16(), up)):
        assert torch.equal(swiglu(x, y), swiglu_reference(x, y))
