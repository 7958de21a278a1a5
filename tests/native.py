"""What the tests of the kernels share: a kernel and the loop that defines it, on the same random inputs."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from liquidlm.ops.native import kernels

needs_kernels = pytest.mark.skipif(kernels().library is None, reason=f"no kernels: {kernels().reason}")


def with_gradients(operation: Callable, inputs: Sequence[Tensor | None], dtype: torch.dtype | None = None):
    """The outputs of an operation, and the gradients of its floating inputs, as a list of float64 tensors.

    Args:
        operation: tensors ▶ a tensor, or a tuple of them.
        inputs: its arguments.
        dtype: the floating inputs are converted to it.
    """
    leaves = []
    for x in inputs:
        if x is not None and x.is_floating_point():
            x = (x if dtype is None else x.to(dtype)).detach().clone().requires_grad_()
        leaves.append(x)
    outputs = operation(*leaves)
    outputs = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    generator = torch.Generator().manual_seed(5)
    weights = [torch.randn(y.shape, generator=generator, dtype=torch.float64) for y in outputs]
    sum((y.double() * w).sum() for y, w in zip(outputs, weights, strict=True)).backward()
    grads = [x.grad for x in leaves if x is not None and x.is_floating_point()]
    return [y.detach().double() for y in outputs + grads]


def assert_same(found: Sequence[Tensor], truth: Sequence[Tensor], bound: float) -> None:
    """Each tensor is within `bound` of the truth, relative to its largest number."""
    for i, (x, y) in enumerate(zip(found, truth, strict=True)):
        assert x.shape == y.shape
        off = (x - y).abs().max() if y.numel() else torch.zeros(())
        scale = y.abs().max().clamp(min=1e-3) if y.numel() else torch.ones(())
        assert off <= bound * scale, f"tensor {i}: off by {off:.3g}, its largest number is {scale:.3g}"
