"""A matrix in int8, for files and for the kernels that write text: the same integers in both."""

import torch
from jaxtyping import BFloat16, Float, Int8
from torch import Tensor


def to_int8(weight: Float[Tensor, "o i"]) -> tuple[Int8[Tensor, "o i"], BFloat16[Tensor, "o 1"]]:
    """Integers q and a scale s per row (a row is an output): w ≈ q s, with s = max |w| / 127.

    s is rounded to bfloat16. So it has 8 bits, q has 7, and q s is exact in float32: `to_int8(q s)` gives q
    and s again.

        >>> q, s = to_int8(torch.tensor([[0.5, -1.27], [0.0, 254.0]]))
        >>> q.tolist(), s.shape
        ([[50, -127], [0, 127]], torch.Size([2, 1]))

    Args:
        weight: a matrix of finite numbers.
    """
    weight = weight.float()
    scale = (weight.abs().amax(1, keepdim=True).clamp(min=1e-30) / 127).bfloat16()
    return (weight / scale).round().to(torch.int8), scale
