"""LayerNorm times a gate, by the kernel of `gated_norm.cpp`."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from ...runtime.precision import product_dtype
from ..function import apply
from .library import call


class GatedLayerNormNative(torch.autograd.Function):
    """`layer_norm_reference` of the rows x, times silu(gate).

    It keeps x, the gate, and the mean and 1/√variance of each row.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx, x: Tensor, gate: Tensor, weight: Tensor, eps: float, dtype: torch.dtype
    ) -> Tensor:
        """The rows, in `dtype`."""
        x, gate, weight = x.contiguous(), gate.contiguous(), weight.contiguous()
        out = torch.empty_like(x, dtype=dtype)
        mean, rstd = (torch.empty(x.shape[:-1], dtype=torch.float32) for _ in range(2))
        types = (gate.dtype == torch.bfloat16, dtype == torch.bfloat16)
        sizes = mean.numel(), x.shape[-1], torch.get_num_threads()
        call("gated_norm_forward", *types, x, gate, weight, float(eps), out, mean, rstd, *sizes)
        ctx.save_for_backward(x, gate, weight, mean, rstd)
        return out

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: FunctionCtx, grad: Tensor
    ) -> tuple[Tensor | None, ...]:
        """The gradients of x, the gate and the weight."""
        x, gate, weight, mean, rstd = ctx.saved_tensors  # pyright: ignore[reportAttributeAccessIssue]
        rows, width = mean.numel(), x.shape[-1]
        # Sums over pieces of rows, added in order.
        of_weight = weight.new_empty(call("norm_pieces", rows, width), width)
        of_x, of_gate = torch.empty_like(x), torch.empty_like(gate)
        types = (gate.dtype == torch.bfloat16, grad.dtype == torch.bfloat16)
        inputs = (x, gate, weight, mean, rstd, grad.contiguous())
        results = (of_x, of_gate, of_weight)
        call("gated_norm_backward", *types, *inputs, *results, rows, width, torch.get_num_threads())
        return of_x, of_gate, of_weight.sum(0), None, None


def gated_layer_norm_native(
    x: Float[Tensor, "*b h"], gate: Float[Tensor, "*b h"], weight: Float[Tensor, " h"], eps: float
) -> Float[Tensor, "*b h"]:
    """`layer_norm_reference` times silu(gate), by the kernel: for x in float32."""
    dtype = torch.promote_types(product_dtype(x), gate.dtype)
    return apply(GatedLayerNormNative, x, gate, weight.float(), eps, dtype)
