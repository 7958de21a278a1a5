"""The kernel of queries, keys and values against torch in float64: outputs and the gradient."""

import pytest
import torch
from native import assert_same, needs_kernels, with_gradients

from liquidlm.ops import queries_keys_values, queries_keys_values_reference
from liquidlm.ops.native import queries_keys_values_native

pytestmark = needs_kernels
BOUND = {torch.float32: 3e-6, torch.bfloat16: 8e-3}  # bfloat16: the results and their gradients are rounded
# rows, events, heads, writes, width of a head
SIZES = [
    (1, 1, 1, 1, 1),
    (2, 3, 3, 1, 5),
    (1, 7, 2, 2, 16),
    (2, 33, 1, 3, 65),
    (3, 50, 4, 1, 64),
    (1, 9, 2, 1, 31),
]


def inputs(rows, events, heads, writes, width, scale=3.0):
    g = torch.Generator().manual_seed(events + width)
    return scale * torch.randn(rows, events, (1 + 2 * writes) * heads * width, generator=g)


def compare(x, heads, writes, bound):
    forms = queries_keys_values_reference, queries_keys_values_native
    exact, native = (lambda x, form=form: form(x, heads, writes) for form in forms)
    assert_same(with_gradients(native, [x]), with_gradients(exact, [x], torch.float64), bound)


@pytest.mark.parametrize("dtype", list(BOUND))
@pytest.mark.parametrize("sizes", SIZES)
def test_outputs_and_the_gradient(sizes, dtype):
    compare(inputs(*sizes).to(dtype), *sizes[2:4], BOUND[dtype])


def test_what_has_no_length():
    """0 stays 0 and has a finite gradient; short vectors have length 1, those below 10⁻¹² do not."""
    for scale in (0.0, 1e-15, 1e-8):
        x = inputs(1, 4, 2, 1, 8, scale)
        compare(x, 2, 1, 3e-6)


def test_gates_far_closed_and_far_open():
    x = torch.tensor([-1e30, -100.0, -88.0, 0.0, 88.0, 1e4]).repeat(3)[None, None]
    compare(x, 1, 1, 3e-6)


def test_other_layouts_and_no_rows():
    x = inputs(3, 6, 2, 1, 8)
    compare(x.mT.contiguous().mT, 2, 1, 3e-6)
    assert [part.shape for part in queries_keys_values(x[:0], 2, 1)] == [(0, 6, 2, 8)] * 3


def test_one_of_the_results_alone():
    x = inputs(2, 5, 2, 2, 8)
    forms = queries_keys_values_reference, queries_keys_values_native
    for i in range(3):
        exact, native = (lambda x, form=form, i=i: form(x, 2, 2)[i] for form in forms)
        assert_same(with_gradients(native, [x]), with_gradients(exact, [x], torch.float64), 3e-6)


def test_the_same_bits_with_any_number_of_threads(monkeypatch):
    x = inputs(4, 60, 4, 1, 64)
    results = []
    for threads in (1, 1, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        results.append(with_gradients(lambda x: queries_keys_values_native(x, 4, 1), [x]))
    for other in results[1:]:
        assert all(torch.equal(x, y) for x, y in zip(results[0], other, strict=True))


def test_other_types_stay_with_torch():
    x = inputs(1, 4, 2, 1, 6).double()
    for part, exact in zip(queries_keys_values(x, 2, 1), queries_keys_values_reference(x, 2, 1), strict=True):
        assert torch.equal(part, exact)
