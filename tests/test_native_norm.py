"""The kernel of LayerNorm, alone and after a sum, against torch in float64: outputs and all gradients."""

import pytest
import torch
from native import assert_same, needs_kernels, with_gradients

from liquidlm.ops import add_layer_norm, layer_norm, layer_norm_reference
from liquidlm.ops.native import add_layer_norm_native, layer_norm_native

pytestmark = needs_kernels
EPS = 1e-6
SHAPES = [(5, 7), (2, 3, 16), (33, 63), (1, 64), (7, 65), (130, 130), (3, 90, 256), (70, 600)]


def inputs(*shape, low=(), level=3.0):
    """x, y and a weight; those named in `low` are in bfloat16. The mean of x is `level`."""
    g = torch.Generator().manual_seed(sum(shape))
    x, y = (torch.randn(shape, generator=g) for _ in range(2))
    made = {"x": x + level, "y": y, "weight": torch.randn(shape[-1], generator=g)}
    return [one.bfloat16() if name in low else one for name, one in made.items()]


def norm(x, weight):
    return layer_norm_native(x, weight, EPS)


def exact_norm(x, weight):
    return layer_norm_reference(x, weight, EPS)


def add_norm(x, y, weight):
    return add_layer_norm_native(x, y, weight, EPS)


def exact_add_norm(x, y, weight):
    return x + y, layer_norm_reference(x + y, weight, EPS)


def compare(form, exact, given, bound, autocast=False):
    truth = with_gradients(exact, given, torch.float64)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        assert_same(with_gradients(form, given), truth, bound)


@pytest.mark.parametrize("shape", SHAPES)
def test_outputs_and_all_gradients(shape):
    x, y, weight = inputs(*shape)
    compare(norm, exact_norm, [x, weight], 3e-6)
    compare(add_norm, exact_add_norm, [x, y, weight], 3e-6)


def test_one_and_two_columns():
    """One number is its own mean: the result is 0, and so is its gradient, within 1/√eps roundings."""
    x, y, weight = inputs(3, 1)
    found = with_gradients(norm, [x, weight])
    assert (found[0] == 0).all() and found[1].abs().max() < 1e-3
    assert torch.equal(add_norm(x, y, weight)[0], x + y)
    x, _, weight = inputs(5, 2)
    assert_same([norm(x, weight).double()], [exact_norm(x.double(), weight.double())], 2e-6)


@pytest.mark.parametrize("autocast", [True, False])
@pytest.mark.parametrize("low", ["", "y", "x", "weight", "x y weight"])
def test_inputs_and_results_in_bfloat16(low, autocast):
    """What is in bfloat16 is rounded to it: the result under autocast, and gradients of low inputs."""
    x, y, weight = inputs(9, 70, low=low.split(), level=0.0)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        assert norm(x, weight).dtype == (torch.bfloat16 if autocast else x.dtype)
    compare(norm, exact_norm, [x, weight], 8e-3, autocast)
    if x.dtype == torch.float32:
        compare(add_norm, exact_add_norm, [x, y, weight], 8e-3, autocast)


def test_one_of_the_two_results_alone():
    x, y, weight = inputs(6, 20)
    compare(lambda *x: add_norm(*x)[1], lambda *x: exact_add_norm(*x)[1], [x, y, weight], 3e-6)
    compare(lambda x, y: add_norm(x, y, weight)[0], torch.add, [x, y], 1e-6)


def test_rows_with_a_large_mean_and_rows_of_one_value():
    x, _, weight = inputs(8, 256, level=1000.0)
    assert_same([norm(x, weight).double()], [exact_norm(x.double(), weight.double())], 2e-4)
    x[:] = 5.0
    found = with_gradients(norm, [x, weight])
    assert (found[0] == 0).all() and all(one.isfinite().all() for one in found)


def turned(x):
    """x, with its columns side by side in memory."""
    return x.mT.contiguous().mT if x.ndim > 1 else x


def test_other_layouts_and_no_rows():
    x, y, weight = inputs(12, 24)
    compare(lambda *given: add_norm(*map(turned, given)), exact_add_norm, [x, y, weight], 3e-6)
    compare(lambda *given: norm(*map(turned, given)), exact_norm, [x, weight], 3e-6)
    assert norm(x[:0], weight).shape == (0, 24)


def test_the_same_bits_with_any_number_of_threads(monkeypatch):
    given = inputs(300, 256, low=["y"])
    results = []
    for threads in (1, 1, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        results.append(with_gradients(add_norm, given))
    for other in results[1:]:
        assert all(torch.equal(x, y) for x, y in zip(results[0], other, strict=True))


def test_other_types_stay_with_torch():
    x, y, weight = (one.double() for one in inputs(5, 8))
    assert torch.equal(layer_norm(x, weight, EPS), layer_norm_reference(x, weight, EPS))
    total, normed = add_layer_norm(x, y, weight, EPS)
    assert torch.equal(total, x + y) and torch.equal(normed, layer_norm_reference(x + y, weight, EPS))
    with torch.autocast("cpu", torch.float16):  # no kernel writes float16
        assert layer_norm(x.float(), weight.float(), EPS).dtype == torch.float16
