"""The product of a gated MLP by the kernel of `swiglu.cpp`."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from ..function import apply
from .library import call


class SwigluNative(torch.autograd.Function):
    """`swiglu_reference`. It keeps its two inputs and nothing else."""

    @staticmethod
    def forward(ctx: FunctionCtx, gate: Tensor, up: Tensor) -> Tensor:
        """silu(gate) ⊙ up."""
        gate, up = gate.contiguous(), up.contiguous()
        out = torch.empty_like(gate)
        is_bf16 = gate.dtype == torch.bfloat16
        call("swiglu_forward", is_bf16, gate, up, out, gate.numel(), torch.get_num_threads())
        ctx.save_for_backward(gate, up)
        return out

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: FunctionCtx, grad: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The gradients of gate and up."""
        gate, up = ctx.saved_tensors  # pyright: ignore[reportAttributeAccessIssue]
        inputs = (gate, up, grad.contiguous())
        grads = torch.empty_like(gate), torch.empty_like(up)
        is_bf16 = gate.dtype == torch.bfloat16
        call("swiglu_backward", is_bf16, *inputs, *grads, gate.numel(), torch.get_num_threads())
        return grads


def swiglu_native(gate: Float[Tensor, "*b m"], up: Float[Tensor, "*b m"]) -> Float[Tensor, "*b m"]:
    """`swiglu_reference`, by the kernel: for two tensors in float32, or two in bfloat16."""
    return apply(SwigluNative, gate, up)
