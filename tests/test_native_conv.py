"""The kernel of the short convolution against the loop that defines it: outputs and all gradients."""

import pytest
import torch
from native import assert_same, needs_kernels, with_gradients

from liquidlm.ops import short_conv, short_conv_reference, short_conv_shifted
from liquidlm.ops.native import short_conv_native

pytestmark = needs_kernels


def inputs(rows, length, width, taps=4, dtype=torch.float32, documents=True):
    """Random inputs. One event in five starts a document."""
    g = torch.Generator().manual_seed(length)
    x, weight = torch.randn(rows, length, width, generator=g).to(dtype), torch.randn(width, taps, generator=g)
    tail = torch.randn(rows, taps - 1, width, generator=g)
    segment = (torch.rand(rows, length, generator=g) < 0.2).cumsum(1).float() if documents else None
    log_gap = (torch.rand(rows, length, generator=g) * 1e4).log1p()
    return [x, weight, tail, segment, log_gap, torch.randn(width, generator=g)]


def compare(form, given, autocast=False):
    """A form and the loop: outputs, and the gradients of all but the numbers of the documents."""
    segment = given[3]
    rest = [*given[:3], *given[4:]]

    def run(operation, *x):
        return operation(*x[:3], None if segment is None else segment.to(x[1].dtype), *x[3:])

    truth = with_gradients(lambda *x: run(short_conv_reference, *x), rest, torch.float64)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        return with_gradients(lambda *x: run(form, *x), rest), truth


@pytest.mark.parametrize("documents", [True, False])
@pytest.mark.parametrize("taps", [1, 2, 4, 5])
@pytest.mark.parametrize(
    ("rows", "length", "width"),
    [(1, 1, 1), (1, 2, 3), (2, 7, 5), (3, 33, 16), (2, 65, 63), (1, 129, 64), (2, 10, 65), (4, 31, 130)],
)
def test_outputs_and_all_gradients(rows, length, width, taps, documents):
    assert_same(*compare(short_conv_native, inputs(rows, length, width, taps, documents=documents)), 2e-6)


@pytest.mark.parametrize("autocast", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_inputs_and_results_in_bfloat16(dtype, autocast):
    """Under autocast y and its gradient are rounded to bfloat16. Without it, y has the type of x."""
    given = inputs(3, 33, 70, dtype=dtype)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        y = short_conv_native(*given)
        assert y.dtype == short_conv_shifted(*given).dtype
    assert_same(*compare(short_conv_native, given, autocast), 8e-3)


def test_no_event_reaches_into_another_document():
    x, weight, tail, _, log_gap, scale = inputs(1, 6, 20)
    x[0, 1] = float("nan")  # not even what is no number
    segment = torch.tensor([[0.0, 0.0, 1.0, 1.0, 2.0, 2.0]])
    y = short_conv_native(x, weight, tail, segment, log_gap, scale)
    alone = short_conv_native(x[:, 2:4], weight, torch.zeros_like(tail), None, log_gap[:, 2:4], scale)
    assert torch.equal(y[:, 2:4], alone)
    assert y[:, 1].isnan().all() and y[:, 2:].isfinite().all()


def test_other_layouts():
    x, *rest = inputs(2, 9, 24)
    found = compare(lambda x, *others: short_conv_native(x.mT.contiguous().mT, *others), [x, *rest])
    assert_same(*found, 2e-6)


def test_the_same_bits_with_any_number_of_threads(monkeypatch):
    given = inputs(3, 50, 100)
    results = []
    for threads in (1, 1, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        results.append(compare(short_conv_native, given)[0])
    for other in results[1:]:
        assert all(torch.equal(x, y) for x, y in zip(results[0], other, strict=True))


def test_float64_stays_with_torch():
    given = [x if x is None else x.double() for x in inputs(2, 9, 4)]
    assert torch.equal(short_conv(*given), short_conv_shifted(*given))
