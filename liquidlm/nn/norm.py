"""The normalisation of every layer."""

from jaxtyping import Float
from torch import Tensor, nn

from ..ops import add_layer_norm, gated_layer_norm, layer_norm


class Norm(nn.LayerNorm):
    """LayerNorm without bias (Ba et al. 2016, arXiv:1607.06450).

    The result has the type in which matrix products are computed. On a CPU torch has a single kernel for each
    pass of LayerNorm; the backward pass of RMSNorm takes about ten passes over memory.

    Args:
        width: H.
        eps: is added to the variance.
    """

    def __init__(self, width: int, eps: float = 1e-6):
        super().__init__(width, eps=eps, bias=False)

    def forward(self, input: Float[Tensor, "*b h"]) -> Float[Tensor, "*b h"]:
        """weight ⊙ (x − mean)/√(variance + eps), over the last dimension."""
        return layer_norm(input, self.weight, self.eps)


class AddNorm(Norm):
    """`Norm` of the sum of a residual stream and what a layer adds to it. On a CPU both are one pass."""

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, x: Float[Tensor, "*b h"], y: Float[Tensor, "*b h"]
    ) -> tuple[Float[Tensor, "*b h"], Float[Tensor, "*b h"]]:
        """x + y, and its norm."""
        return add_layer_norm(x, y, self.weight, self.eps)


class GatedNorm(Norm):
    """`Norm` times silu of a gate. On a CPU both are one pass."""

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, x: Float[Tensor, "*b h"], gate: Float[Tensor, "*b h"]
    ) -> Float[Tensor, "*b h"]:
        """norm x ⊙ silu(gate)."""
        return gated_layer_norm(x, gate, self.weight, self.eps)
