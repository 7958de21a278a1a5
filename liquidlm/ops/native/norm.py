"""LayerNorm, alone and with the sum before it, by the kernel of `norm.cpp`."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from ...runtime.precision import product_dtype
from ..function import apply
from .library import call


class LayerNormNative(torch.autograd.Function):
    """`layer_norm_reference`. It keeps x, and the mean and 1/√variance of each row."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, weight: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
        """The normalised rows, in `dtype`."""
        x, weight = x.contiguous(), weight.contiguous()
        out, mean, rstd = _results(x, dtype)
        _forward(x, None, weight, eps, None, out, mean, rstd)
        ctx.save_for_backward(x, weight, mean, rstd)
        return out

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: FunctionCtx, grad: Tensor
    ) -> tuple[Tensor | None, ...]:
        """The gradients of x and the weight."""
        x, weight, mean, rstd = ctx.saved_tensors  # pyright: ignore[reportAttributeAccessIssue]
        of_x = torch.empty_like(x)
        of_weight = _backward(x, weight, mean, rstd, grad, None, of_x, None)
        return of_x, of_weight, None, None


class AddLayerNormNative(torch.autograd.Function):
    """x + y, and `layer_norm_reference` of it. It keeps the sum, and the mean and 1/√variance of each row."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, x: Tensor, y: Tensor, weight: Tensor, eps: float, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        """x + y, and its normalised rows in `dtype`."""
        x, y, weight = x.contiguous(), y.contiguous(), weight.contiguous()
        total = torch.empty_like(x)
        out, mean, rstd = _results(x, dtype)
        _forward(x, y, weight, eps, total, out, mean, rstd)
        ctx.save_for_backward(total, weight, mean, rstd)
        ctx.set_materialize_grads(False)
        ctx.type_of_y, ctx.type_of_out = y.dtype, dtype  # pyright: ignore[reportAttributeAccessIssue]
        return total, out

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: FunctionCtx, grad_total: Tensor | None, grad: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        """The gradients of x, y and the weight."""
        total, weight, mean, rstd = ctx.saved_tensors  # pyright: ignore[reportAttributeAccessIssue]
        if grad is None:
            grad = torch.zeros_like(total, dtype=ctx.type_of_out)  # pyright: ignore[reportAttributeAccessIssue]
        of_x = torch.empty_like(total)
        low = ctx.type_of_y == torch.bfloat16  # pyright: ignore[reportAttributeAccessIssue]
        of_y = torch.empty_like(total, dtype=torch.bfloat16) if low else None
        grad_total = None if grad_total is None else grad_total.contiguous()
        of_weight = _backward(total, weight, mean, rstd, grad, grad_total, of_x, of_y)
        return of_x, of_x if of_y is None else of_y, of_weight, None, None


def _results(x: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Room for the normalised rows, their means, and their 1/√variance."""
    out = torch.empty_like(x, dtype=dtype)
    mean, rstd = (torch.empty(x.shape[:-1], dtype=torch.float32) for _ in range(2))
    return out, mean, rstd


def _forward(
    x: Tensor,
    y: Tensor | None,
    weight: Tensor,
    eps: float,
    total: Tensor | None,
    out: Tensor,
    mean: Tensor,
    rstd: Tensor,
) -> None:
    types = [one is not None and one.dtype == torch.bfloat16 for one in (x, y, out)]
    sizes = mean.numel(), x.shape[-1], torch.get_num_threads()
    call("norm_forward", *types, x, y, weight, float(eps), total, out, mean, rstd, *sizes)


def _backward(
    x: Tensor,
    weight: Tensor,
    mean: Tensor,
    rstd: Tensor,
    grad: Tensor,
    grad_total: Tensor | None,
    of_x: Tensor,
    of_y: Tensor | None,
) -> Tensor:
    """Fills of_x and of_y; returns the gradient of the weight: sums over pieces of rows, added in order."""
    rows, width = mean.numel(), x.shape[-1]
    sums = weight.new_empty(call("norm_pieces", rows, width), width)
    types = x.dtype == torch.bfloat16, grad.dtype == torch.bfloat16
    inputs = (x, weight, mean, rstd, grad.contiguous(), grad_total)
    call("norm_backward", *types, *inputs, of_x, of_y, sums, rows, width, torch.get_num_threads())
    return sums.sum(0)


def layer_norm_native(
    x: Float[Tensor, "*b h"], weight: Float[Tensor, " h"], eps: float
) -> Float[Tensor, "*b h"]:
    """`layer_norm_reference`, by the kernel: for x and the result in float32 or bfloat16."""
    return apply(LayerNormNative, x, weight.float(), eps, product_dtype(x))


def add_layer_norm_native(
    x: Float[Tensor, "*b h"], y: Float[Tensor, "*b h"], weight: Float[Tensor, " h"], eps: float
) -> tuple[Float[Tensor, "*b h"], Float[Tensor, "*b h"]]:
    """x + y and its `layer_norm_reference`, by the kernel: for x in float32, y in float32 or bfloat16."""
    return apply(AddLayerNormNative, x, y, weight.float(), eps, product_dtype(x))
