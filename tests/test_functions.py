"""The autograd Functions: nothing is computed that nobody asked for, and autocast has no say in gradients."""

import pytest
import torch
from helpers import normal
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from liquidlm.ops import (
    delta_memory,
    delta_memory_chunked,
    linear_cross_entropy,
    liquid_relax,
    liquid_scan,
    short_conv,
)

T, H = 40, 8


def given(*shape, seed, positive=False):
    made = normal(*shape, seed=seed, dtype=torch.float32)
    return made.sigmoid() if positive else made


SEGMENT = torch.arange(T)[None].expand(2, -1).ge(20).float()
FUNCTIONS = {
    "memory": (
        lambda q, k, v, g, e, s: delta_memory_chunked(q, k, v, -g, e, s, 16),
        [given(2, T, 2, 4, seed=i) / 2 for i in range(3)]
        + [given(2, T, 2, seed=i, positive=True) for i in (3, 4)]
        + [given(2, 2, 4, 4, seed=5)],
    ),
    "scan": (
        liquid_scan,
        [given(2, T, H, seed=0, positive=True), given(2, T, H, seed=1), given(2, H, seed=2)],
    ),
    "relax": (
        liquid_relax,
        [given(2, T, 2 * H, seed=0)]
        + [given(*shape, seed=i, positive=True) for i, shape in enumerate([(H,), (2, T), (H,), (2, H)])],
    ),
    "conv": (
        lambda x, w, tail, drive, scale: short_conv(x, w, tail, SEGMENT, drive, scale),
        [given(*shape, seed=i) for i, shape in enumerate([(2, T, H), (H, 4), (2, 3, H), (2, T), (H,)])],
    ),
    "loss": (
        lambda x, w: linear_cross_entropy(x, w, torch.arange(2 * T).view(2, T) % 5, 32),
        [given(2, T, H, seed=0), given(5, H, seed=1)],
    ),
}
every = pytest.mark.parametrize("name", FUNCTIONS)


class Operations(TorchDispatchMode):
    """How many operations there are."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += 1
        return func(*args, **(kwargs or {}))


def total(found) -> Tensor:
    found = found if isinstance(found, tuple) else (found,)
    return sum((one * normal(*one.shape, seed=9, dtype=one.dtype)).sum() for one in found)  # pyright: ignore


def leaves(name, wanted=None) -> list[Tensor]:
    made = [one.clone() for one in FUNCTIONS[name][1]]
    return [one.requires_grad_(wanted is None or i in wanted) for i, one in enumerate(made)]


def count_forward(call, inputs) -> int:
    with Operations() as mode:
        call(*inputs)
    return mode.count


@every
def test_without_gradients_no_more_is_done_than_for_inputs_that_need_none(name):
    call = FUNCTIONS[name][0]
    least = count_forward(call, leaves(name, wanted=()))
    with torch.no_grad():
        detached = count_forward(call, leaves(name, wanted=()))
        assert count_forward(call, leaves(name)) <= detached + len(leaves(name))  # a detach for each
    assert count_forward(call, leaves(name)) >= least


def test_a_loss_without_gradients_multiplies_once():
    class Products(Operations):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            self.count += func.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm)
            return func(*args, **(kwargs or {}))

    call, inputs = FUNCTIONS["loss"][0], leaves("loss")
    with torch.no_grad(), Products() as mode:
        call(*inputs)
    assert mode.count == 3  # one for each slice of 32 of the 80 tokens


@every
def test_only_the_gradients_that_are_needed_are_made(name):
    call = FUNCTIONS[name][0]
    inputs = leaves(name)
    whole = torch.autograd.grad(total(call(*inputs)), inputs)
    made = []
    for wanted in ({*range(len(inputs))}, *({i} for i in range(len(inputs)))):
        some = leaves(name, wanted)
        loss = total(call(*some))
        with Operations() as mode:
            loss.backward()
        made.append(mode.count)
        for i, (one, grad) in enumerate(zip(some, whole, strict=True)):
            assert (one.grad is not None) == (i in wanted)
            assert one.grad is None or torch.equal(one.grad, grad)
    if name != "loss":  # which makes them in the forward pass: see above
        assert max(made[1:]) < made[0]


@every
def test_a_backward_pass_within_autocast_gives_the_same_gradients(name):
    """The forward pass within autocast, too, or not: then the products are in bfloat16 by intention."""
    call = FUNCTIONS[name][0]
    for forward in (False, True):
        found = []
        for backward in (False, True):
            inputs = leaves(name)
            with torch.autocast("cpu", torch.bfloat16, enabled=forward):
                loss = total(call(*inputs)).float()
            with torch.autocast("cpu", torch.bfloat16, enabled=backward):
                found.append(torch.autograd.grad(loss, inputs))
        for outside, inside in zip(*found, strict=True):
            assert torch.equal(outside, inside)


def test_the_memory_is_as_exact_within_autocast():
    inputs = leaves("memory")
    outside = delta_memory_chunked(*inputs)[0]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(delta_memory_chunked(*inputs)[0], outside)
        inside = delta_memory(*inputs)[0]
    assert torch.equal(inside, delta_memory(*inputs)[0])
