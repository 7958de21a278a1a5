"""Muon on CPU and GPU: matrices of the same shape in one batch, in the number type that is fast there."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

POLYNOMIALS = (
    (8.2191, -23.4022, 17.1584),
    (3.9691, -2.8392, 0.5230),
    (3.5145, -2.5856, 0.5058),
    (2.5375, -1.8513, 0.4283),
)
"""Coefficients a, b, c of the iterations. Each is the odd polynomial ax + bx³ + cx⁵ with the smallest largest
distance from 1 where the iterations before bring singular values from 0.003 to 1, with 1 % to spare for
rounding. At the end they are from 0.78 to 1.22 (Amsel et al. 2025, "The Polar Express", arXiv 2505.16932)."""
MARGIN = 1.02
"""The norm that matrices are divided by is this many times a bound, since rounding moves it. Above 1 the
first polynomial is steep."""
EPS = 1e-7
"""The smallest norm to divide by."""
TOGETHER = 2**22
"""Largest number of elements in one batch of matrices. It keeps all cores busy, and takes little memory
compared with a model."""


class Muon(torch.optim.Muon):
    """Muon: momentum, orthogonalized by an iteration in a chosen number type.

        m ← μ m + (1 − μ) g,   W ← (1 − γλ) W − γ √max(1, rows/columns) · O(μ m + (1 − μ) g)

    m is the momentum, g the gradient, O the iteration (see `orthogonalized`).
    torch's Muon iterates in bfloat16, one matrix after the other. A CPU without bfloat16 products is about
    fifty times slower with bfloat16 than with float32; there Muon took most of a training step.

    Source: Keller Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks",
    https://kellerjordan.github.io/posts/muon/.

    Args:
        matrices: two-dimensional parameters.
        lr: learning rate γ.
        weight_decay: λ.
        momentum: μ.
        bf16: iterate in bfloat16; else in float32 (float64 for float64 matrices).

    Example:
        >>> matrix = torch.nn.Parameter(torch.zeros(2, 2))
        >>> muon = Muon([matrix], lr=0.1, weight_decay=0.0, momentum=0.95, bf16=False)
        >>> matrix.grad = torch.tensor([[5.0, 0.0], [0.0, 5.0]])
        >>> muon.step()
        >>> matrix[0, 0].item() < 0 and matrix[0, 1].item() == 0
        True
    """

    def __init__(
        self, matrices: Iterable[Any], *, lr: float, weight_decay: float, momentum: float, bf16: bool
    ):
        super().__init__(matrices, lr=lr, weight_decay=weight_decay, momentum=momentum)
        self.bf16 = bf16

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update all matrices that have a gradient. `closure` computes the gradients and returns the loss."""
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
        """Update matrices of the same shape."""
        wanted, weight = [], group["momentum"]
        for matrix in matrices:
            grad, momentum = matrix.grad, self._momentum(matrix)
            assert grad is not None
            momentum.lerp_(grad, 1 - weight)
            wanted.append(grad.lerp(momentum, weight))
        update = torch.stack(wanted)
        dtype = torch.bfloat16 if self.bf16 else torch.promote_types(update.dtype, torch.float32)
        update = orthogonalized(update.to(dtype))
        rows, columns = matrices[0].shape
        for matrix, change in zip(matrices, update, strict=True):
            matrix.mul_(1 - group["lr"] * group["weight_decay"])
            matrix.add_(change.to(matrix.dtype), alpha=-group["lr"] * max(1.0, rows / columns) ** 0.5)

    def _momentum(self, matrix: Tensor) -> Tensor:
        state = self.state[matrix]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(matrix)
        return state["momentum_buffer"]


def orthogonalized(x: Float[Tensor, "n a b"]) -> Float[Tensor, "n a b"]:
    """Orthogonalize matrices approximately: X = U S Vᵀ becomes U Vᵀ, by four odd polynomials.

        X ← X / √‖XXᵀ‖,   then  X ← aX + (bG + cG²)X  with  G = XXᵀ,  for (a, b, c) in POLYNOMIALS

    √‖XXᵀ‖ = (Σ s⁴)^¼ is at least the largest singular value, and closer to it than ‖X‖ = (Σ s²)^½: singular
    values begin larger, so that fewer iterations are needed.

    Args:
        x: n matrices.
    """
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.mT
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=EPS)
    gram = x @ x.mT
    square = (MARGIN * MARGIN * gram.norm(dim=(1, 2), keepdim=True)).clamp(min=EPS)
    x, gram = x / square.sqrt(), gram / square
    for step, (a, b, c) in enumerate(POLYNOMIALS):
        if step:
            gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


def _portions(matrices: list[Tensor]) -> Iterator[list[Tensor]]:
    """Split the matrices into batches of at most `TOGETHER` elements."""
    count = max(1, TOGETHER // matrices[0].numel())
    return (matrices[first : first + count] for first in range(0, len(matrices), count))
