"""The normalisation of every layer."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..runtime.precision import product_dtype


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
        weight = self.weight.to(torch.promote_types(self.weight.dtype, input.dtype))
        normed = F.layer_norm(input, self.normalized_shape, weight, None, self.eps)
        return normed.to(product_dtype(input))
