"""The next token of each row by the kernel of `sample.cpp`."""

import torch
from jaxtyping import Float, Float32, Float64, Int, Int64
from torch import Tensor

from .library import call

FEW = 4
"""Up to this many rows are drawn by one thread."""


def sample_native(
    logits: Float[Tensor, "b v"],
    chance: Float64[Tensor, " b"],
    temperature: Float32[Tensor, " b"],
    top_k: Int64[Tensor, " b"],
    top_p: Float64[Tensor, " b"],
) -> Int[Tensor, " b"]:
    """A token per row, drawn from its logits; −1 if they are not finite or allow no token.

    Args:
        logits: in float32.
        chance: a number in [0, 1) per row: where in the distribution the token is taken.
        temperature: divides the logits; 0 takes the likeliest token.
        top_k: draw from the k likeliest tokens only; 0 keeps all.
        top_p: draw from the smallest set of likeliest tokens with at least this probability.
    """
    rows, vocabulary = logits.shape
    tokens = logits.new_empty(rows, dtype=torch.long)
    work = logits.new_empty(rows, -(-vocabulary // 64) * 64)
    threads = torch.get_num_threads() if rows > FEW else 1
    tensors = (logits.contiguous(), chance, tokens, work, temperature, top_k, top_p)
    call("sample", *tensors, rows, vocabulary, threads)
    return tokens
