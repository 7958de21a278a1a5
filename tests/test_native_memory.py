"""The kernel of the matrix memory against the loop that defines it: outputs and all gradients."""

import pytest
import torch
import torch.nn.functional as F
from native import assert_same, needs_kernels, with_gradients

from liquidlm.ops import delta_memory, delta_memory_chunked, delta_memory_reference
from liquidlm.ops.native import delta_memory_native

pytestmark = needs_kernels

BOUND = 3e-6


def inputs(rows, length, heads, keys, values, dtype=torch.float32, starts=True, seed=0):
    """Random inputs, with gaps of 0 and of 10,000 and writes of 0 and 2 among the others."""
    g = torch.Generator().manual_seed(seed)
    q, k = (
        F.normalize(torch.randn(rows, length, heads, keys, generator=g), dim=-1).to(dtype) for _ in range(2)
    )
    v = torch.randn(rows, length, heads, values, generator=g).to(dtype)
    log_decay, kind = -torch.rand(rows, length, heads, generator=g), torch.rand(rows, length, generator=g)
    log_decay[kind < 0.3], log_decay[kind > 0.95] = 0.0, -1e4
    if starts:
        log_decay[kind < 0.05] = float("-inf")
    write = (3 * torch.rand(rows, length, heads, generator=g) - 0.5).clamp(0, 2)
    return [q, k, v, log_decay, write, torch.randn(rows, heads, keys, values, generator=g)]


def compare(given, chunk_size=64, bound=BOUND):
    """The kernel against the loop in float64; gradients in bfloat16 are rounded to it."""
    truth = with_gradients(delta_memory_reference, given, torch.float64)
    found = with_gradients(lambda *x: delta_memory_native(*x, chunk_size), given)
    types = [torch.float32, torch.float32, *(x.dtype for x in given)]
    for x, y, dtype in zip(found, truth, types, strict=True):
        assert_same([x], [y], 4e-3 if dtype == torch.bfloat16 else bound)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("rows", "length", "heads", "keys", "values"),
    [
        (1, 1, 1, 1, 1),
        (1, 2, 1, 3, 2),
        (2, 5, 3, 4, 7),
        (1, 63, 2, 16, 16),
        (2, 64, 1, 17, 33),
        (1, 65, 2, 64, 64),
        (1, 130, 1, 1, 128),
        (1, 131, 1, 128, 1),
        (2, 100, 2, 128, 127),
        (3, 200, 1, 31, 65),
    ],
)
def test_outputs_and_all_gradients(rows, length, heads, keys, values, dtype):
    compare(inputs(rows, length, heads, keys, values, dtype))


@pytest.mark.parametrize("chunk_size", [1, 2, 5, 6, 7, 15, 16, 17, 48, 100, 128, 1000])
def test_any_chunk_size(chunk_size):
    compare(inputs(2, 150, 2, 12, 20), chunk_size)


def test_mixed_types_and_other_layouts():
    """A view of one tensor with all projections; heads first; one query for several writes."""
    q, k, v, *rest = inputs(2, 70, 2, 8, 8)
    joined = torch.cat([k, v], -1).bfloat16()
    k, v = joined.split(8, -1)
    q = q.transpose(1, 2).contiguous().transpose(1, 2)
    assert not any(x.is_contiguous() for x in (q, k, v))
    compare([q, k, v, *rest])
    compare([q.mT.contiguous().mT, k, v, *rest])
    compare([q[:, :1].expand(-1, 70, -1, -1), k, v, *rest])


def test_gradients_that_are_views_of_one_number():
    given = [x.requires_grad_() for x in inputs(1, 9, 2, 4, 4)]
    reads, state = delta_memory_native(*given)
    grads = torch.autograd.grad(reads.sum() + state.sum(), given)
    reads, state = delta_memory_reference(*given)
    truth = torch.autograd.grad(reads.sum() + state.sum(), given)
    assert_same(grads, truth, 1e-5)


def test_only_what_needs_a_gradient():
    given = inputs(1, 9, 2, 4, 4)
    leaf = given[2].requires_grad_()
    (grad,) = torch.autograd.grad(delta_memory_native(*given)[0].sum(), leaf)
    (truth,) = torch.autograd.grad(delta_memory_reference(*given)[0].sum(), leaf)
    assert_same([grad], [truth], BOUND)
    with torch.no_grad():
        assert torch.equal(delta_memory_native(*given)[0], delta_memory_native(*given)[0])


def test_a_start_lets_nothing_pass():
    """Before the last start no input has a gradient from what is read after it, not even a small one."""
    given = inputs(2, 100, 2, 8, 8, starts=False)
    given[3][:, 70] = float("-inf")
    leaves = [x.clone().requires_grad_() for x in given]
    reads, state = delta_memory_native(*leaves)
    (reads[:, 70:].sum() + state.sum()).backward()
    *of_tokens, of_state = (x.grad for x in leaves)
    assert all(x.isfinite().all() and (x[:, :70] == 0).all() for x in of_tokens)
    assert (of_tokens[3][:, 70] == 0).all()
    assert (of_state == 0).all()


def test_nothing_but_starts():
    given = inputs(1, 70, 1, 8, 8)
    given[3][:] = float("-inf")
    compare(given)


@pytest.mark.parametrize("off", [0.0, 1e-3, 1e-1])
def test_nearly_parallel_keys(off):
    """Powers of the coupling of the keys would reach 2⁶³."""
    q, k, v, log_decay, write, state = inputs(1, 128, 1, 16, 16, starts=False)
    k = F.normalize(k[:, :1] + off * k, dim=-1)
    compare([q, k, v, 0 * log_decay, torch.ones_like(write), state], bound=1e-5)
    compare([q, k, v, 0 * log_decay, torch.full_like(write, 2.0), state], bound=1e-4)


def test_the_same_bits_on_every_run_and_with_every_number_of_threads(monkeypatch):
    given = inputs(3, 150, 2, 20, 20)
    once = with_gradients(delta_memory_native, given)
    for threads in (1, 2, 5, 9):
        monkeypatch.setattr(torch, "get_num_threads", lambda n=threads: n)
        again = with_gradients(delta_memory_native, given)
        assert all(torch.equal(x, y) for x, y in zip(once, again, strict=True))


def test_dispatch():
    """float32 goes to the kernel, float64 to torch."""
    given = inputs(2, 20, 2, 4, 4)
    assert torch.equal(delta_memory(*given)[0], delta_memory_native(*given)[0])
    given = [x.double() for x in given]
    assert torch.equal(delta_memory(*given)[0], delta_memory_chunked(*given)[0])
