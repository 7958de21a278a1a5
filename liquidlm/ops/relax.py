"""Where a gap becomes a decay, in fused form: the liquid neuron over a whole sequence as one operation.

    decay = e^{−λ·pace·duration}

`liquid_relax_reference` in `reference.py` defines the operation. `liquidlm.nn.cells.decay` has the same
formula for one step.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from .function import apply, in_own_precision
from .scan import following, scan
from .slabs import Workspace, slabs


class LiquidRelax(torch.autograd.Function):
    """`liquid_relax_reference`. The backward pass computes rates and decays again, to save memory.

        x = −λ·pace·duration,    q = eˣ − 1,    decay = 1 + q  (0 where a document starts)
        h = decay·h_before − q·(f/λ)·A

    All steps work in place: a new tensor would not be in the cache.
    """

    @staticmethod
    @in_own_precision
    def forward(
        ctx: FunctionCtx,
        synapse: Tensor,
        leak: Tensor,
        duration: Tensor,
        pace: Tensor,
        h0: Tensor,
        start: Tensor | None,
    ) -> Tensor:
        """Every h (B, T, H), slab by slab."""
        batch, length, width = *synapse.shape[:2], leak.shape[0]
        h, carry = leak.new_empty(batch, length, width), h0
        work = Workspace(leak, batch, length, width, count=3)
        for s in slabs(length, batch, synapse.device):
            f, rate, q = work.slab(s)
            _relaxation(synapse[:, s], leak, duration[:, s], pace, f, rate, q)
            drive = f.neg_().div_(rate).mul_(synapse[:, s, width:]).mul_(q)
            decay = q.add_(1)
            if start is not None:
                decay.masked_fill_(start[:, s, None], 0.0)
            scan(decay, drive, carry, out=h[:, s])
            carry = h[:, s.stop - 1]
        ctx.save_for_backward(synapse, leak, duration, pace, h0, start, h)  # pyright: ignore[reportArgumentType]
        return h

    @staticmethod
    @once_differentiable
    @in_own_precision
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: FunctionCtx, grad: Tensor
    ) -> tuple[Tensor | None, ...]:
        """The gradients of the inputs that need one."""
        synapse, leak, duration, pace, h0, start, h = ctx.saved_tensors  # pyright: ignore[reportAttributeAccessIssue]
        of_synapse, of_leak, of_duration, of_pace, of_h0, _ = ctx.needs_input_grad  # pyright: ignore[reportAttributeAccessIssue]
        batch, length, width = h.shape
        grad_synapse, grad_duration = torch.empty_like(synapse), torch.empty_like(duration)
        grad_leak, grad_pace, after = torch.zeros_like(leak), torch.zeros_like(pace), torch.zeros_like(h0)
        work = Workspace(leak, batch, length, width, count=7)
        for s in slabs(length, batch, synapse.device, reverse=True):
            f, rate, q, adjoint, spare, other, last = work.slab(s)
            begins = None if start is None else start[:, s, None]
            _relaxation(synapse[:, s], leak, duration[:, s], pace, f, rate, q)
            decay = torch.add(q, 1, out=spare)
            if begins is not None:
                decay.masked_fill_(begins, 0.0)
            scan(following(decay, other), last.copy_(grad[:, s]), after, out=adjoint, reverse=True)
            after = decay[:, 0] * adjoint[:, 0]

            minus_f = f.neg_()
            minus_share = torch.div(minus_f, rate, out=spare)
            potential = last.copy_(synapse[:, s, width:])
            before = other
            before[:, 1:] = h[:, s.start : s.stop - 1]
            before[:, 0] = h0 if s.start == 0 else h[:, s.start - 1]
            if begins is not None:
                before.masked_fill_(begins, 0.0)
            by_q = before.addcmul_(minus_share, potential).mul_(adjoint)
            adjoint.mul_(q)
            by_x = by_q.mul_(q.add_(1))
            by_time = torch.mul(by_x, rate, out=q) if of_duration or of_pace else q  # of −pace·duration
            if of_duration:
                grad_duration[:, s] = -(by_time @ pace)
            if of_pace:
                grad_pace -= torch.mv(by_time.flatten(0, 1).mT, duration[:, s].flatten())
            if not (of_synapse or of_leak):
                continue
            minus_by_share = potential.mul_(adjoint).div_(rate)  # over λ
            minus_by_rate = by_x.mul_(pace).mul_(duration[:, s, None]).addcmul_(minus_by_share, minus_share)
            if of_leak:
                grad_leak -= minus_by_rate.sum((0, 1))
            if of_synapse:  # ∂f/∂synapse = σ(synapse) = 1 − e^{−f}
                grad_synapse[:, s, width:] = adjoint.mul_(minus_share)
                grad_synapse[:, s, :width] = minus_by_rate.add_(minus_by_share).mul_(minus_f.expm1_())
        grads = (grad_synapse, grad_leak, grad_duration, grad_pace, after)
        needed = (of_synapse, of_leak, of_duration, of_pace, of_h0)
        return *(grad if wanted else None for grad, wanted in zip(grads, needed, strict=True)), None


def _relaxation(
    synapse: Tensor, leak: Tensor, duration: Tensor, pace: Tensor, f: Tensor, rate: Tensor, q: Tensor
) -> None:
    """Writes f, λ and q = e^{−λ·pace·duration} − 1 of a slab to the given tensors: a gap becomes a decay."""
    f.copy_(synapse[..., : leak.shape[0]])
    torch.ops.aten.softplus.out(f, 1, 20, out=f)
    torch.add(f, leak, out=rate)
    torch.mul(rate, -pace, out=q).mul_(duration[..., None]).expm1_()


def liquid_relax_fused(
    synapse: Float[Tensor, "b t two_h"],
    leak: Float[Tensor, " h"],
    duration: Float[Tensor, "b t"],
    pace: Float[Tensor, " h"],
    h0: Float[Tensor, "b h"],
    start: Bool[Tensor, "b t"] | None = None,
) -> Float[Tensor, "b t h"]:
    """`liquid_relax_reference`, in parallel over time."""
    return apply(LiquidRelax, synapse, leak, duration, pace, h0, start)
