"""The liquid neuron over a sequence by the kernel of `relax.cpp`."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from ..function import apply
from .library import call


class LiquidRelaxNative(torch.autograd.Function):
    """`liquid_relax_reference`. It keeps its inputs and h; the backward pass computes the rest again."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        synapse: Tensor,
        leak: Tensor,
        duration: Tensor,
        pace: Tensor,
        h0: Tensor,
        start: Tensor | None,
    ) -> Tensor:
        """Every h (B, T, H)."""
        h = leak.new_empty(*synapse.shape[:2], leak.shape[0])
        inputs = [None if x is None else x.contiguous() for x in (synapse, leak, duration, pace, h0, start)]
        call("relax_forward", synapse.dtype == torch.bfloat16, *inputs, h, *h.shape, torch.get_num_threads())
        ctx.save_for_backward(*inputs, h)  # pyright: ignore[reportArgumentType]
        return h

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: FunctionCtx, grad: Tensor
    ) -> tuple[Tensor | None, ...]:
        """The gradients of the inputs."""
        *inputs, h = ctx.saved_tensors  # pyright: ignore[reportAttributeAccessIssue]
        synapse, _, duration, _, h0, _ = inputs
        blocks = call("relax_blocks", h.shape[2])
        # The kernel writes sums over blocks of units and over time; they are added here, always in one order.
        of_synapse, of_duration = torch.empty_like(synapse), duration.new_empty(blocks, *duration.shape)
        of_leak, of_pace, of_h0 = (torch.empty_like(h0) for _ in range(3))
        results = (of_synapse, of_duration, of_leak, of_pace, of_h0)
        sizes = (*h.shape, torch.get_num_threads())
        is_bf16 = synapse.dtype == torch.bfloat16
        call("relax_backward", is_bf16, *inputs, h, grad.contiguous(), *results, *sizes)
        return of_synapse, of_leak.sum(0), of_duration.sum(0), of_pace.sum(0), of_h0, None


def liquid_relax_native(
    synapse: Float[Tensor, "b t two_h"],
    leak: Float[Tensor, " h"],
    duration: Float[Tensor, "b t"],
    pace: Float[Tensor, " h"],
    h0: Float[Tensor, "b h"],
    start: Bool[Tensor, "b t"] | None = None,
) -> Float[Tensor, "b t h"]:
    """`liquid_relax_reference`, by the kernel: for float32, with a synapse in float32 or bfloat16."""
    return apply(LiquidRelaxNative, synapse, leak, duration, pace, h0, start)
