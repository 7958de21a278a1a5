"""The nonlinear neuron over a sequence by the kernel of `nonlinear.cpp`."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from ..function import apply, in_own_precision
from .library import call


class NonlinearRelaxNative(torch.autograd.Function):
    """`nonlinear_relax_reference`. It keeps h, the context before silu and the synapse with its context."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        encoded: Tensor,
        synapse: Tensor,
        of_state: Tensor,
        of_context: Tensor,
        leak: Tensor,
        duration: Tensor,
        pace: Tensor,
        h0: Tensor,
        start: Tensor | None,
    ) -> Tensor:
        """Every h (B, T, H)."""
        (batch, length, context), width = encoded.shape, leak.shape[0]
        events = [None if x is None else x.contiguous() for x in (leak, duration, pace, h0, start)]
        matrices = of_state.contiguous(), of_context.contiguous()
        z, s = encoded.new_empty(encoded.shape, dtype=leak.dtype), leak.new_empty(batch, length, 2 * width)
        kept = (z, s) if any(ctx.needs_input_grad) else (None, None)  # pyright: ignore[reportAttributeAccessIssue]
        h = leak.new_empty(batch, length, width)
        room = (leak.new_empty(batch, width), leak.new_empty(batch, context))
        room += _panels(leak, (width, context), (context, width))
        sizes = (batch, length, width, context, torch.get_num_threads())
        is_bf16 = synapse.dtype == torch.bfloat16
        inputs = (encoded.contiguous(), synapse.contiguous(), *matrices, *events)
        call("nonlinear_forward", is_bf16, *inputs, *kept, h, *room, *sizes)
        ctx.save_for_backward(*matrices, *events, *kept, h)  # pyright: ignore[reportArgumentType]
        ctx.dtype = synapse.dtype  # pyright: ignore[reportAttributeAccessIssue]
        return h

    @staticmethod
    @once_differentiable
    @in_own_precision
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: FunctionCtx, grad: Tensor
    ) -> tuple[Tensor | None, ...]:
        """The gradients of the inputs. Those of the two matrices are products over all events."""
        saved, dtype = ctx.saved_tensors, ctx.dtype  # pyright: ignore[reportAttributeAccessIssue]
        _, _, leak, duration, _, h0, _, z, s, h = saved
        (batch, length, width), context = h.shape, z.shape[2]
        of_encoded, c = (torch.empty_like(z, dtype=dtype) for _ in range(2))
        of_synapse, tanh_h = torch.empty_like(s, dtype=dtype), torch.empty_like(h, dtype=dtype)
        of_duration = duration.new_empty(call("nonlinear_blocks", width), batch, length)
        of_leak, of_pace, of_h0 = (torch.zeros_like(h0) for _ in range(3))
        results = (of_encoded, of_synapse, tanh_h, c, of_duration, of_leak, of_pace, of_h0)
        room = (leak.new_empty(batch, 2 * width), leak.new_empty(batch, context))
        room += _panels(leak, (context, width), (2 * width, context))
        sizes = (batch, length, width, context, torch.get_num_threads())
        inputs = (dtype == torch.bfloat16, *saved, grad.contiguous())
        call("nonlinear_backward", *inputs, *results, *room, *sizes)
        matrices = (_over_events(of_encoded, tanh_h), _over_events(of_synapse, c))
        sums = (of_leak.sum(0), of_duration.sum(0), of_pace.sum(0))
        return of_encoded, of_synapse, *(x.to(leak) for x in matrices), *sums, of_h0, None


def _panels(like: Tensor, *shapes: tuple[int, int]) -> tuple[Tensor, ...]:
    """Room for matrices (inputs, columns) as the kernel packs them."""
    return tuple(like.new_empty(call("nonlinear_packed", *shape)) for shape in shapes)


def _over_events(grad: Tensor, x: Tensor) -> Tensor:
    """The gradient of a matrix whose product with x has the gradient `grad`, summed over all events."""
    return grad.flatten(0, 1).mT @ x.flatten(0, 1)


def nonlinear_relax_native(
    encoded: Float[Tensor, "b t c"],
    synapse: Float[Tensor, "b t two_h"],
    of_state: Float[Tensor, "c h"],
    of_context: Float[Tensor, "two_h c"],
    leak: Float[Tensor, " h"],
    duration: Float[Tensor, "b t"],
    pace: Float[Tensor, " h"],
    h0: Float[Tensor, "b h"],
    start: Bool[Tensor, "b t"] | None = None,
) -> Float[Tensor, "b t h"]:
    """`nonlinear_relax_reference`, by the kernel: encoded and synapse both in float32 or both in bfloat16."""
    given = (encoded, synapse, of_state, of_context, leak, duration, pace, h0, start)
    return apply(NonlinearRelaxNative, *given)
