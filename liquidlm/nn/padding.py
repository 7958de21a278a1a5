"""Moves padding from either side of a row to the right end, and back."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int, Num, Shaped
from torch import Tensor

from ..runtime.traced import holds


@dataclass(frozen=True)
class PaddingOrder:
    """The order of positions in which each row's padding stands at the right end.

    The tokens of a row keep their order. The layers read a batch in this order.

    Example:
        >>> padding = PaddingOrder.of(torch.tensor([[0, 0, 1, 1]]))
        >>> moved = padding.apply(torch.tensor([[7, 7, 3, 4]]))
        >>> moved
        tensor([[3, 4, 7, 7]])
        >>> padding.undo(moved)
        tensor([[0, 0, 3, 4]])

    Attributes:
        order: (B, T) the position that each token comes from; None if no position is padded.
        real: (B, T) false where padded, in the given order; None if no position is padded.
    """

    order: Int[Tensor, "b t"] | None = None
    real: Bool[Tensor, "b t"] | None = None

    @classmethod
    def of(cls, attention_mask: Num[Tensor, "b t"] | Bool[Tensor, "b t"] | None) -> "PaddingOrder":
        """The order for a mask that is 0 where padded. A batch without padding costs nothing."""
        if attention_mask is None or holds((attention_mask != 0).all(), False):
            return cls()
        real = attention_mask != 0
        return cls((~real).to(torch.int8).argsort(dim=1, stable=True), real)

    def apply(self, x: Shaped[Tensor, "b t *rest"]) -> Shaped[Tensor, "b t *rest"]:
        """A tensor with an entry per position, in this order."""
        return x if self.order is None else _gather(x, self.order, 1)

    def undo(self, x: Shaped[Tensor, "b *rest"], dim: int = 1) -> Shaped[Tensor, "b *rest"]:
        """The inverse of `apply`, with 0 where padded; `dim` is the dimension of the positions."""
        if self.order is None or self.real is None:
            return x
        return _gather(x, self.order.argsort(1), dim) * _along(self.real, x, dim)


def _along(positions: Shaped[Tensor, "b t"], x: Tensor, dim: int) -> Tensor:
    """`positions` (B, T), reshaped for broadcasting: B is the first dimension of x, T is dimension `dim`."""
    return positions.reshape([len(x) if i == 0 else x.shape[i] if i == dim else 1 for i in range(x.dim())])


def _gather(x: Tensor, order: Int[Tensor, "b t"], dim: int) -> Tensor:
    return x.gather(dim, _along(order, x, dim).expand_as(x))
