"""The norm of every layer."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..runtime.precision import product_dtype


class Norm(nn.LayerNorm):
    """LayerNorm without bias (Ba et al. 2016); the result has the type in which matrix products are computed.

    On a CPU torch has one kernel each way for it, where RMSNorm takes about ten passes backwards.
    """

    def __init__(self, width: int, eps: float = 1e-6):
        super().__init__(width, eps=eps, bias=False)

    def forward(self, input: Float[Tensor, "*b h"]) -> Float[Tensor, "*b h"]:
        weight = self.weight.to(torch.promote_types(self.weight.dtype, input.dtype))
        normed = F.layer_norm(input, self.normalized_shape, weight, None, self.eps)
        return normed.to(product_dtype(input))
