"""The diagonal recurrence h_i = a_i ⊙ h_{i−1} + b_i, in parallel over chunks of time."""

from itertools import pairwise
from math import isqrt

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from .function import apply, in_own_precision

LANES = 8192
"""The least useful count of numbers per step of the scan on a CPU; on a GPU a hundred times more."""


class LiquidScan(torch.autograd.Function):
    """The recurrence. Its gradients are the adjoint recurrence, from the end to the beginning."""

    @staticmethod
    @in_own_precision
    def forward(ctx: FunctionCtx, a: Tensor, b: Tensor, h0: Tensor) -> Tensor:
        """Every h (B, T, H)."""
        h = torch.empty_like(b)
        scan(a.clone(), b.clone(), h0, out=h)
        ctx.save_for_backward(a, h, h0)
        return h

    @staticmethod
    @once_differentiable
    @in_own_precision
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: FunctionCtx, grad: Tensor
    ) -> tuple[Tensor | None, ...]:
        """The gradients of a, b and h0."""
        needs = ctx.needs_input_grad  # pyright: ignore[reportAttributeAccessIssue]
        a, h, h0 = ctx.saved_tensors  # pyright: ignore[reportAttributeAccessIssue]
        adjoint, grad_a = torch.empty_like(grad), torch.empty_like(a)
        scan(following(a, grad_a), grad.clone(), torch.zeros_like(h0), out=adjoint, reverse=True)
        if needs[0]:
            torch.mul(adjoint[:, 1:], h[:, :-1], out=grad_a[:, 1:])
            torch.mul(adjoint[:, 0], h0, out=grad_a[:, 0])
        return grad_a if needs[0] else None, adjoint, a[:, 0] * adjoint[:, 0] if needs[2] else None


def following(a: Tensor, out: Tensor) -> Tensor:
    """a_{i+1} at i, 1 at the end: the decays of the adjoint recurrence λ_i = grad_i + a_{i+1} λ_{i+1}."""
    out[:, :-1] = a[:, 1:]
    out[:, -1] = 1
    return out


def scan(a: Tensor, b: Tensor, h0: Tensor, *, out: Tensor, reverse: bool = False) -> None:
    """Writes h_i = a_i h_{i−1} + b_i, over dimension 1, to `out`. Overwrites a and b.

    A step with few numbers costs as much as its call. So if B·H is small, chunks of time run in parallel:
    first each chunk alone, with the products of its decays; then the h before each chunk is added.

    Args:
        a, b: (B, T, H).
        h0: (B, H) h before the first step.
        out: (B, T, H).
        reverse: from the end to the beginning.
    """
    batch, length, width = a.shape
    lanes = LANES if a.device.type == "cpu" else 100 * LANES
    count = min(isqrt(length), lanes // (batch * width))
    size = length // count if count > 1 else 0
    whole = count * size
    # Whole chunks; the rest, shorter than a chunk, comes last in scan order.
    head = slice(length - whole, length) if reverse else slice(0, whole)
    carry = h0
    if whole:
        local, through, result = (x[:, head].unflatten(1, (count, size)) for x in (b, a, out))
        towards = -1 if reverse else 1
        steps = list(zip(local.unbind(2), through.unbind(2), strict=True))[::towards]
        for (before, passed), (h, decay) in pairwise(steps):
            h.addcmul_(decay, before)
            decay.mul_(passed)
        chunks = list(zip(local.unbind(1), through.unbind(1), result.unbind(1), strict=True))[::towards]
        for own, decay, h in chunks:
            _into(h, own, decay, carry[:, None])
            carry = h[:, 0 if reverse else -1]
    rest = slice(0, length - whole) if reverse else slice(whole, length)
    steps = list(zip(*(x[:, rest].unbind(1) for x in (b, a, out)), strict=True))
    for drive, decay, h in reversed(steps) if reverse else steps:
        carry = _into(h, drive, decay, carry)


def _into(h: Tensor, drive: Tensor, decay: Tensor, before: Tensor) -> Tensor:
    """h = decay · before + drive, in place. torch.compile does not support `out` with these strides."""
    if torch.compiler.is_compiling():
        return h.copy_(torch.addcmul(drive, decay, before))
    return torch.addcmul(drive, decay, before, out=h)


def liquid_scan_chunked(
    decay: Float[Tensor, "b t h"], drive: Float[Tensor, "b t h"], h0: Float[Tensor, "b h"]
) -> Float[Tensor, "b t h"]:
    """The diagonal recurrence h_i = decay_i ⊙ h_{i−1} + drive_i, in parallel over chunks."""
    return apply(LiquidScan, decay, drive, h0)
