"""Queries, keys and values of the matrix memory by the kernel of `heads.cpp`."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from ..function import apply
from .library import call


class QueriesKeysValuesNative(torch.autograd.Function):
    """`queries_keys_values_reference`. It keeps x, and 1/‖·‖ of each query and key."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, heads: int, writes: int) -> tuple[Tensor, Tensor, Tensor]:
        """q, k and v."""
        x = x.contiguous()
        batch, length, width = *x.shape[:2], x.shape[2] // (heads * (1 + 2 * writes))
        q = x.new_empty(batch, length, heads, width)
        k, v = (x.new_empty(batch, length * writes, heads, width) for _ in range(2))
        scales = x.new_empty(batch, length, (1 + writes) * heads, dtype=torch.float32)
        sizes = (batch * length, heads, writes, width)
        is_bf16 = x.dtype == torch.bfloat16
        call("heads_forward", is_bf16, x, q, k, v, scales, *sizes, torch.get_num_threads())
        ctx.save_for_backward(x, scales)
        ctx.sizes = sizes  # pyright: ignore[reportAttributeAccessIssue]
        return q, k, v

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: FunctionCtx, *grads: Tensor
    ) -> tuple[Tensor, None, None]:
        """The gradient of x."""
        x, scales = ctx.saved_tensors  # pyright: ignore[reportAttributeAccessIssue]
        sizes: tuple[int, ...] = ctx.sizes  # pyright: ignore[reportAttributeAccessIssue]
        of_x, dense = torch.empty_like(x), [one.contiguous() for one in grads]
        is_bf16 = x.dtype == torch.bfloat16
        call("heads_backward", is_bf16, x, scales, *dense, of_x, *sizes, torch.get_num_threads())
        return of_x, None, None


def queries_keys_values_native(
    x: Float[Tensor, "b t c"], heads: int, writes: int
) -> tuple[Float[Tensor, "b t n k"], Float[Tensor, "b s n k"], Float[Tensor, "b s n k"]]:
    """`queries_keys_values_reference`, by the kernel: for float32 or bfloat16."""
    return apply(QueriesKeysValuesNative, x, heads, writes)
