"""Chunk-parallel forms in plain PyTorch, for any device: the results of `reference`, in parallel over time.

Decays are only ever exponentials of sums ≤ 0 over the steps between two events, so that no gap, however
large, overflows, and an infinite one (a document's start) is an exact zero.
"""

from math import isqrt

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable


def segment_sums(g: Float[Tensor, "*batch c"]) -> Float[Tensor, "*batch c c"]:
    """s_ij = Σ_{j<l≤i} g_l for i ≥ j, −inf above the diagonal.

    Summed, never subtracted: differences of cumulative sums would lose the small decays beside a large
    one and turn −inf − (−inf) into NaN.
    """
    size = g.shape[-1]
    above = torch.ones(size, size, dtype=torch.bool, device=g.device).triu()
    terms = g[..., :, None].expand(*g.shape, size).masked_fill(above, 0.0)
    return terms.cumsum(-2).masked_fill(above.triu(1), float("-inf"))


def delta_memory_chunked(
    q: Float[Tensor, "b t n k"],
    k: Float[Tensor, "b t n k"],
    v: Float[Tensor, "b t n p"],
    log_decay: Float[Tensor, "b t n"],
    write: Float[Tensor, "b t n"],
    state: Float[Tensor, "b n k p"],
    chunk_size: int = 64,
) -> tuple[Float[Tensor, "b t n p"], Float[Tensor, "b n k p"]]:
    """The matrix memory in chunks of C tokens (the WY form of Yang et al. 2024).

    In a chunk with decays D_ij = e^{g_{j+1}+…+g_i} and γ_i = e^{g_1+…+g_i}, writes U solve

        (I + tril(η KKᵀ⊙D, −1)) U = η (V − γ K S₀),

    then O = γ Q S₀ + (QKᵀ⊙D) U and S₀' = γ_C S₀ + (K ⊙ D_C)ᵀ U. All that does not involve S₀ is
    batched over every chunk; only the carry from chunk to chunk is sequential. The system is solved by
    substitution: the powers of a nilpotent inverse overflow while keys are nearly parallel.
    """
    batch, length, heads, key_width = q.shape
    value_width = v.shape[-1]
    size = min(chunk_size, length)
    count = -(-length // size)

    def chunks(x: Tensor) -> Tensor:
        """(B, T, N, ·) ▶ (B·N, T/C, C, ·); padding steps have no decay and no write."""
        x = F.pad(x, (0, 0) * (x.dim() - 2) + (0, count * size - length))
        x = x.unflatten(1, (count, size)).movedim(3, 1)
        return x.flatten(0, 1)

    q, k, v, g, eta = (chunks(x) for x in (q, k, v, log_decay, write))
    eta = eta[..., None]
    between = segment_sums(g).exp()
    from_start = g.cumsum(-1).exp()[..., None]
    to_end = between[..., -1, :, None]

    coupling = (eta * (k @ k.mT) * between).tril(-1)
    right_side = torch.cat([v, from_start * k], -1) * eta
    solved = torch.linalg.solve_triangular(coupling, right_side, upper=False, unitriangular=True)
    own, seen = solved.split([value_width, key_width], -1)
    attention = (q @ k.mT) * between
    q = from_start * q
    k = (to_end * k).mT

    s = state.flatten(0, 1)
    reads = []
    for i in range(count):
        u = torch.baddbmm(own[:, i], seen[:, i], s, alpha=-1)
        reads.append(torch.baddbmm(q[:, i] @ s, attention[:, i], u))
        s = torch.baddbmm(from_start[:, i, -1:] * s, k[:, i], u)
    out = torch.stack(reads, 1).unflatten(0, (batch, heads)).movedim(1, 3)
    return out.flatten(1, 2)[:, :length], s.unflatten(0, (batch, heads))


def delta_memory_weights(
    q: Float[Tensor, "b t n k"],
    k: Float[Tensor, "b t n k"],
    log_decay: Float[Tensor, "b t n"],
    write: Float[Tensor, "b t n"],
) -> Float[Tensor, "b n t t"]:
    """The exact weight of value j in read i: o_i = Σ_j w_ij v_j (+ what was read of the initial state).

    W = (QKᵀ⊙D) (I + tril(η KKᵀ⊙D, −1))⁻¹ η over the whole sequence: quadratic, for short T.
    """
    q, k = q.movedim(2, 1), k.movedim(2, 1)
    between = segment_sums(log_decay.movedim(2, 1)).exp()
    eta = write.movedim(2, 1)
    with torch.autocast(q.device.type, enabled=False):
        coupling = (eta[..., None] * (k @ k.mT) * between).tril(-1)
        own = torch.diag_embed(eta)
        solved = torch.linalg.solve_triangular(coupling, own, upper=False, unitriangular=True)
        return ((q @ k.mT) * between) @ solved


class LiquidScan(torch.autograd.Function):
    """h_i = a_i ⊙ h_{i−1} + b_i in two levels: √T steps over all chunks at once, then one carry per chunk."""

    @staticmethod
    def forward(ctx: FunctionCtx, a: Tensor, b: Tensor, h0: Tensor) -> Tensor:
        h = _scan(a, b, h0)
        ctx.save_for_backward(a, h, h0)
        return h

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: FunctionCtx, grad: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        a, h, h0 = ctx.saved_tensors  # pyright: ignore[reportAttributeAccessIssue]
        # The adjoint is the same recurrence backwards: λ_i = grad_i + a_{i+1} λ_{i+1}.
        adjoint = _scan(a, grad, None, reverse=True)
        grad_a = torch.empty_like(adjoint)
        torch.mul(adjoint[:, 1:], h[:, :-1], out=grad_a[:, 1:])
        torch.mul(adjoint[:, 0], h0, out=grad_a[:, 0])
        return grad_a, adjoint, a[:, 0] * adjoint[:, 0]


def _scan(a: Tensor, b: Tensor, h0: Tensor | None, reverse: bool = False) -> Tensor:
    """Two-level scan over dim 1; `reverse` runs λ_i = b_i + a_{i+1} λ_{i+1} from the end."""
    length = a.shape[1]
    if reverse:
        a = torch.cat([a[:, 1:], a.new_ones(a.shape[0], 1, a.shape[2])], 1)
    size = max(1, isqrt(length))
    count = length // size
    whole = count * size
    out = torch.empty_like(b)
    order = range(size - 1, -1, -1) if reverse else range(size)
    # Whole chunks, aligned so that the rest (shorter than a chunk) is what comes last in scan order.
    head = slice(length - whole, length) if reverse else slice(0, whole)
    decay = a[:, head].unflatten(1, (count, size))
    drive = b[:, head].unflatten(1, (count, size))
    local = out[:, head].unflatten(1, (count, size))
    through = torch.empty_like(local, memory_format=torch.contiguous_format)
    previous = None
    for i in order:
        if previous is None:
            local[:, :, i] = drive[:, :, i]
            through[:, :, i] = decay[:, :, i]
        else:
            torch.addcmul(drive[:, :, i], decay[:, :, i], local[:, :, previous], out=local[:, :, i])
            torch.mul(decay[:, :, i], through[:, :, previous], out=through[:, :, i])
        previous = i
    carry = h0
    for c in range(count - 1, -1, -1) if reverse else range(count):
        if carry is not None:
            local[:, c].addcmul_(through[:, c], carry[:, None])
        carry = local[:, c, order[-1]]
    for i in range(length - whole - 1, -1, -1) if reverse else range(whole, length):
        assert carry is not None
        torch.addcmul(b[:, i], a[:, i], carry, out=out[:, i])
        carry = out[:, i]
    return out


def liquid_scan_chunked(
    decay: Float[Tensor, "b t h"], drive: Float[Tensor, "b t h"], h0: Float[Tensor, "b h"]
) -> Float[Tensor, "b t h"]:
    """The diagonal recurrence h_i = decay_i ⊙ h_{i−1} + drive_i, in parallel over chunks of √T steps."""
    return LiquidScan.apply(decay, drive, h0)  # pyright: ignore[reportReturnType]


class ShortConv(torch.autograd.Function):
    """Depthwise causal convolution as W shifted products; torch's own conv1d is slow on CPU at width 4."""

    @staticmethod
    def forward(ctx: FunctionCtx, past: Tensor, weight: Tensor) -> Tensor:
        length = past.shape[1] - weight.shape[1] + 1
        out = past[:, :length] * weight[:, 0]
        for j in range(1, weight.shape[1]):
            out.addcmul_(past[:, j : j + length], weight[:, j])
        ctx.save_for_backward(past, weight)
        return out

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: FunctionCtx, grad: Tensor
    ) -> tuple[Tensor, Tensor]:
        past, weight = ctx.saved_tensors  # pyright: ignore[reportAttributeAccessIssue]
        length = grad.shape[1]
        grad_past, grad_weight = torch.zeros_like(past), torch.empty_like(weight)
        for j in range(weight.shape[1]):
            grad_past[:, j : j + length].addcmul_(grad, weight[:, j])
            grad_weight[:, j] = (grad * past[:, j : j + length]).sum((0, 1))
        return grad_past, grad_weight


def short_conv_shifted(
    x: Float[Tensor, "b t h"],
    weight: Float[Tensor, "h w"],
    tail: Float[Tensor, "b w_minus_1 h"],
    segment: Float[Tensor, "b t"] | None = None,
) -> Float[Tensor, "b t h"]:
    """Causal depthwise convolution; see `short_conv_reference`."""
    past = torch.cat([tail, x], 1)
    if segment is None:
        return ShortConv.apply(past, weight)  # pyright: ignore[reportReturnType]
    width, length = weight.shape[1], x.shape[1]
    numbers = F.pad(segment, (width - 1, 0))

    def tap(j: int) -> Tensor:
        seen: Bool[Tensor, "b t"] = numbers[:, j : j + length] == segment
        return past[:, j : j + length] * seen[..., None] * weight[:, j]

    return torch.stack([tap(j) for j in range(width)]).sum(0)
