"""Muon, on any processor: matrices of one shape together, in the type that products are fast in."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

TOGETHER = 2**22
"""Matrices are iterated together up to so many numbers: enough to keep cores busy, little beside a model."""


class Muon(torch.optim.Muon):
    """torch's Muon (Jordan et al. 2024), with a choice of type for its Newton–Schulz iteration.

        m ← μ m + (1 − μ) g,   W ← (1 − γλ) W − γ √max(1, rows/columns) · NS(μ m + (1 − μ) g)

    torch iterates in bfloat16, matrix by matrix. A processor without bfloat16 products does them some fifty
    times slower than float32's: on such a CPU most of a training step was Muon's.

    Args:
        lr, weight_decay, momentum: γ, λ, μ.
        bf16: iterate in bfloat16; else in float32 (float64 matrices in float64).
    """

    def __init__(
        self, matrices: Iterable[Any], *, lr: float, weight_decay: float, momentum: float, bf16: bool
    ):
        super().__init__(matrices, lr=lr, weight_decay=weight_decay, momentum=momentum)
        self.bf16 = bf16

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update all matrices that have a gradient. A closure makes the gradients and returns the loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            alike: dict[Any, list[Tensor]] = defaultdict(list)
            for matrix in group["params"]:
                if matrix.grad is not None:
                    alike[matrix.shape, matrix.dtype, matrix.device].append(matrix)
            for matrices in alike.values():
                for some in _portions(matrices):
                    self._update(some, group)
        return loss

    def _update(self, matrices: list[Tensor], group: dict[str, Any]) -> None:
        """One step of matrices of one shape."""
        wanted, weight = [], group["momentum"]
        for matrix in matrices:
            grad, momentum = matrix.grad, self._momentum(matrix)
            assert grad is not None
            momentum.lerp_(grad, 1 - weight)
            wanted.append(grad.lerp(momentum, weight))
        update = torch.stack(wanted)
        dtype = torch.bfloat16 if self.bf16 else torch.promote_types(update.dtype, torch.float32)
        update = orthogonalized(update.to(dtype), group["ns_coefficients"], group["ns_steps"], group["eps"])
        rows, columns = matrices[0].shape
        for matrix, change in zip(matrices, update, strict=True):
            matrix.mul_(1 - group["lr"] * group["weight_decay"])
            matrix.add_(change.to(matrix.dtype), alpha=-group["lr"] * max(1.0, rows / columns) ** 0.5)

    def _momentum(self, matrix: Tensor) -> Tensor:
        state = self.state[matrix]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(matrix)
        return state["momentum_buffer"]


def orthogonalized(
    x: Float[Tensor, "n a b"], coefficients: tuple[float, float, float], steps: int, eps: float
) -> Float[Tensor, "n a b"]:
    """Near U Vᵀ of each X = U S Vᵀ, by X ← aX + (bG + cG²)X with G = XXᵀ (Newton–Schulz, of fifth order)."""
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.mT
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=eps)
    a, b, c = coefficients
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


def _portions(matrices: list[Tensor]) -> Iterator[list[Tensor]]:
    """Some of the matrices at a time."""
    count = max(1, TOGETHER // matrices[0].numel())
    return (matrices[first : first + count] for first in range(0, len(matrices), count))
