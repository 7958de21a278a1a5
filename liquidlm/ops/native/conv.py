"""The short convolution by the kernel of `conv.cpp`."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from ...runtime.precision import product_dtype
from ..function import apply
from .library import call


class ShortConvNative(torch.autograd.Function):
    """`short_conv_reference`. It keeps its inputs."""

    @staticmethod
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
        """y (B, T, H) in `dtype`."""
        given = (x, weight.mT, tail, segment, log_gap, gap_scale)
        inputs = [None if one is None else one.contiguous() for one in given]
        out = torch.empty(x.shape, dtype=dtype)
        call("conv_forward", *_types(x, out), *inputs, out, *_sizes(x, tail))
        ctx.save_for_backward(*inputs)  # pyright: ignore[reportArgumentType]
        return out

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: FunctionCtx, grad: Tensor
    ) -> tuple[Tensor | None, ...]:
        """The gradients of the inputs."""
        inputs = ctx.saved_tensors  # pyright: ignore[reportAttributeAccessIssue]
        x, taps, tail, _, log_gap, gap_scale = inputs
        rows, blocks = len(x), call("conv_blocks", x.shape[2])
        # The kernel writes sums over rows and over blocks of units; they are added here, always in one order.
        of_x, of_taps, of_tail = (
            torch.empty_like(x),
            taps.new_empty(rows, *taps.shape),
            torch.empty_like(tail),
        )
        of_gap, of_scale = (
            log_gap.new_empty(blocks, *log_gap.shape),
            gap_scale.new_empty(rows, len(gap_scale)),
        )
        results = (of_x, of_taps, of_tail, of_gap, of_scale)
        call("conv_backward", *_types(x, grad), *inputs, grad.contiguous(), *results, *_sizes(x, tail))
        return of_x, of_taps.sum(0).mT, of_tail, None, of_gap.sum(0), of_scale.sum(0), None


def _types(x: Tensor, y: Tensor) -> tuple[bool, bool]:
    """Which of the two are in bfloat16."""
    return x.dtype == torch.bfloat16, y.dtype == torch.bfloat16


def _sizes(x: Tensor, tail: Tensor) -> tuple[int, ...]:
    """B, T, H, W−1, and the number of threads."""
    return *x.shape, tail.shape[1], torch.get_num_threads()


def short_conv_native(
    x: Float[Tensor, "b t h"],
    weight: Float[Tensor, "h w"],
    tail: Float[Tensor, "b w_minus_1 h"],
    segment: Float[Tensor, "b t"] | None,
    log_gap: Float[Tensor, "b t"],
    gap_scale: Float[Tensor, " h"],
) -> Float[Tensor, "b t h"]:
    """`short_conv_reference`, by the kernel: for float32, with x and the result in float32 or bfloat16."""
    return apply(ShortConvNative, x, weight, tail, segment, log_gap, gap_scale, product_dtype(x))
