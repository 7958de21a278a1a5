"""The short causal convolution as sums of shifted products: torch's conv1d is slow on a CPU at width 4."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from ..runtime.precision import product_dtype
from .function import apply, in_own_precision
from .slabs import Workspace, slabs


class ShortConv(torch.autograd.Function):
    """`short_conv_reference`. The few events next to the start of a document are corrected afterwards."""

    @staticmethod
    @in_own_precision
    def forward(
        ctx: FunctionCtx,
        x: Tensor,
        weight: Tensor,
        tail: Tensor,
        segment: Tensor | None,
        log_gap: Tensor,
        gap_scale: Tensor,
        dtype: torch.dtype,
    ) -> Tensor:
        """y (B, T, H), slab by slab."""
        batch, length, width = x.shape
        out = torch.empty(x.shape, dtype=dtype, device=x.device)
        taps, kept = weight.mT.contiguous(), weight.shape[1] - 1  # contiguous taps are read faster
        inputs = Workspace(tail, batch, length, width, count=1, extra=kept)
        work = Workspace(tail, batch, length, width, count=1)
        for s in slabs(length, batch, x.device):
            (past,), (y,) = inputs.slab(s), work.slab(s)
            _fill(past, x, tail, s)
            torch.mul(log_gap[:, s, None], gap_scale, out=y)
            for j in range(kept + 1):
                y.addcmul_(past[:, j : j + y.shape[1]], taps[j])
            out[:, s] = y
        rows = None if segment is None else _near_starts(segment, kept)
        if segment is not None and rows is not None:
            b, i, seen = rows
            seen_inputs = _inputs(x, tail, b, i, seen)
            out[b, i] = ((seen_inputs * taps).sum(1) + log_gap[b, i, None] * gap_scale).to(out.dtype)
        ctx.save_for_backward(x, weight, tail, log_gap, gap_scale, *(rows or ()))
        return out

    @staticmethod
    @once_differentiable
    @in_own_precision
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: FunctionCtx, grad: Tensor
    ) -> tuple[Tensor | None, ...]:
        """The gradients of the inputs that need one."""
        x, weight, tail, log_gap, gap_scale, *rows = ctx.saved_tensors  # pyright: ignore[reportAttributeAccessIssue]
        batch, length, width = x.shape
        taps, kept = weight.mT.contiguous(), weight.shape[1] - 1  # contiguous taps are read faster
        grad_past = tail.new_zeros(batch, length + kept, width)
        grad_taps, grad_log_gap, grad_gap_scale = (torch.zeros_like(y) for y in (taps, log_gap, gap_scale))
        of_x, of_weight, of_tail, _, of_log_gap, of_gap_scale, _ = ctx.needs_input_grad  # pyright: ignore[reportAttributeAccessIssue]
        needed = (of_x or of_tail, of_weight, of_log_gap, of_gap_scale)
        grads = tuple(
            one if wanted else None
            for one, wanted in zip((grad_past, grad_taps, grad_log_gap, grad_gap_scale), needed, strict=True)
        )
        if rows:
            b, i, seen = rows
            _backward_near_starts(
                x, taps, tail, log_gap, gap_scale, grad[b, i].to(tail.dtype), b, i, seen, grads
            )
            grad = grad.index_put((b, i), grad.new_zeros(()))
        inputs = Workspace(tail, batch, length, width, count=1, extra=kept)
        work = Workspace(tail, batch, length, width, count=2)
        for s in slabs(length, batch, x.device):
            (past,), (g, both) = inputs.slab(s), work.slab(s)
            g.copy_(grad[:, s])
            if of_weight:
                _fill(past, x, tail, s)
            for j in range(kept + 1):
                if of_x or of_tail:
                    grad_past[:, s.start + j : s.stop + j].addcmul_(g, taps[j])
                if of_weight:
                    grad_taps[j] += torch.mul(g, past[:, j : j + g.shape[1]], out=both).flatten(0, 1).sum(0)
            if of_log_gap:
                grad_log_gap[:, s] += g @ gap_scale
            if of_gap_scale:
                grad_gap_scale += torch.mv(g.flatten(0, 1).mT, log_gap[:, s].flatten())
        return (
            grad_past[:, kept:].to(x.dtype) if of_x else None,
            grad_taps.mT if of_weight else None,
            grad_past[:, :kept] if of_tail else None,
            None,
            grad_log_gap if of_log_gap else None,
            grad_gap_scale if of_gap_scale else None,
            None,
        )


def _fill(past: Tensor, x: Tensor, tail: Tensor, s: slice) -> None:
    """Copies x of the slab and of the W−1 events before it into `past`."""
    kept = tail.shape[1]
    before = min(kept, s.start)
    past[:, kept - before :] = x[:, s.start - before : s.stop]
    past[:, : kept - before] = tail[:, s.start :]


def _backward_near_starts(
    x: Tensor,
    taps: Tensor,
    tail: Tensor,
    log_gap: Tensor,
    gap_scale: Tensor,
    grad: Tensor,
    b: Tensor,
    i: Tensor,
    seen: Tensor,
    into: tuple[Tensor | None, ...],
) -> None:
    """Adds the gradients of the events (b, i), which see only some of the W inputs."""
    grad_past, grad_taps, grad_log_gap, grad_gap_scale = into
    if grad_taps is not None:
        grad_taps += (_inputs(x, tail, b, i, seen) * grad[:, None]).sum(0)
    if grad_log_gap is not None:
        grad_log_gap[b, i] += grad @ gap_scale
    if grad_gap_scale is not None:
        grad_gap_scale += log_gap[b, i] @ grad
    if grad_past is not None:
        columns = i[:, None] + torch.arange(len(taps), device=x.device)
        grad_past.index_put_((b[:, None], columns), grad[:, None] * taps * seen[..., None], accumulate=True)


def _near_starts(segment: Tensor, kept: int) -> tuple[Tensor, Tensor, Tensor] | None:
    """The events (b, i) with some of the W inputs in another document, and which inputs they see."""
    numbers = F.pad(segment, (kept, 0))
    seen = numbers.unfold(1, kept + 1, 1) == segment[..., None]
    b, i = (~seen[..., 0]).nonzero(as_tuple=True)
    return (b, i, seen[b, i]) if len(b) else None


def _inputs(x: Tensor, tail: Tensor, b: Tensor, i: Tensor, seen: Tensor) -> Tensor:
    """(events, W, H): the inputs of the events (b, i), 0 where not seen."""
    kept = tail.shape[1]
    columns = i[:, None] + torch.arange(kept + 1, device=x.device)
    inputs = x[b[:, None], (columns - kept).clamp(min=0)].to(tail.dtype)
    if kept > 0:
        past = tail[b[:, None], columns.clamp(max=kept - 1)]
        inputs = torch.where((columns >= kept)[..., None], inputs, past)
    return inputs.where(seen[..., None], 0)


def short_conv_shifted(
    x: Float[Tensor, "b t h"],
    weight: Float[Tensor, "h w"],
    tail: Float[Tensor, "b w_minus_1 h"],
    segment: Float[Tensor, "b t"] | None,
    log_gap: Float[Tensor, "b t"],
    gap_scale: Float[Tensor, " h"],
) -> Float[Tensor, "b t h"]:
    """`short_conv_reference`, in parallel over time."""
    weight, gap_scale = weight.to(tail.dtype), gap_scale.to(tail.dtype)
    return apply(ShortConv, x, weight, tail, segment, log_gap, gap_scale, product_dtype(x))
