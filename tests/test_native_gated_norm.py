"""The kernel of LayerNorm with a gate against torch in float64: outputs and all gradients."""

import pytest
import torch
import torch.nn.functional as F
from native import assert_same, needs_kernels, with_gradients

from liquidlm.ops import gated_layer_norm, layer_norm_reference
from liquidlm.ops.native import gated_layer_norm_native

pytestmark = needs_kernels
EPS = 1e-6
SHAPES = [(5, 7), (2, 3, 16), (33, 63), (1, 64), (7, 65), (130, 130), (3, 90, 4, 64), (70, 600)]


def inputs(*shape, low=(), level=1.0):
    """x with the mean `level`, a gate and a weight; those named in `low` are in bfloat16."""
    g = torch.Generator().manual_seed(sum(shape))
    x, gate = (torch.randn(shape, generator=g) for _ in range(2))
    made = {"x": x + level, "gate": 3 * gate, "weight": torch.randn(shape[-1], generator=g)}
    return [one.bfloat16() if name in low else one for name, one in made.items()]


def native(x, gate, weight):
    return gated_layer_norm_native(x, gate, weight, EPS)


def exact(x, gate, weight):
    return layer_norm_reference(x, weight, EPS) * F.silu(gate)


def compare(form, given, bound, autocast=False):
    truth = with_gradients(exact, given, torch.float64)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        assert_same(with_gradients(form, given), truth, bound)


@pytest.mark.parametrize("shape", SHAPES)
def test_outputs_and_all_gradients(shape):
    compare(native, inputs(*shape), 3e-6)


def test_one_column_and_rows_of_one_value():
    for x in (inputs(3, 1)[0], torch.full((4, 20), 5.0)):
        found = with_gradients(native, [x, *inputs(*x.shape)[1:]])
        assert (found[0] == 0).all() and all(one.isfinite().all() for one in found)


@pytest.mark.parametrize("autocast", [True, False])
@pytest.mark.parametrize("low", ["", "gate", "weight", "gate weight"])
def test_gate_and_result_in_bfloat16(low, autocast):
    """The result is in bfloat16 under autocast if the gate is, as that of torch's product."""
    x, gate, weight = inputs(9, 70, low=low.split())
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        expected = torch.bfloat16 if autocast and "gate" in low else torch.float32
        assert gated_layer_norm(x, gate, weight, EPS).dtype == expected
    compare(native, [x, gate, weight], 8e-3, autocast)


def test_gates_far_closed_and_far_open():
    x, _, weight = inputs(2, 6)
    compare(native, [x, torch.tensor([-1e30, -100.0, -88.0, 0.0, 88.0, 1e4]).repeat(2, 1), weight], 3e-6)


def test_other_layouts_and_no_rows():
    x, gate, weight = inputs(12, 24)
    compare(
        lambda x, gate, w: native(x.mT.contiguous().mT, gate.mT.contiguous().mT, w), [x, gate, weight], 3e-6
    )
    assert native(x[:0], gate[:0], weight).shape == (0, 24)


def test_the_same_bits_with_any_number_of_threads(monkeypatch):
    given = inputs(900, 64, low=["gate"])
    results = []
    for threads in (1, 1, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        results.append(with_gradients(native, given))
    for other in results[1:]:
        assert all(torch.equal(x, y) for x, y in zip(results[0], other, strict=True))


def test_other_types_stay_with_torch():
    x, gate, weight = (one.double() for one in inputs(5, 8))
    assert torch.equal(gated_layer_norm(x, gate, weight, EPS), exact(x, gate, weight))
