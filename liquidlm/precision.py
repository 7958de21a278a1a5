"""bfloat16 where the machine is faster with it."""

import time
from contextlib import AbstractContextManager

import torch

GEMM = 512
GAIN = 1.2
"""bfloat16 products must be this many times as fast as float32's, for the casts to pay."""


def autocast(device: torch.device, bf16: bool) -> AbstractContextManager:
    """Matrix products in bfloat16; states, rates, softmax and losses stay float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=bf16)


def bf16_is_faster(device: torch.device) -> bool:
    """Whether bfloat16 matrix products beat float32's here: known for a GPU, measured on a CPU (0.1 s)."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return _gemm_seconds(torch.float32) > GAIN * _gemm_seconds(torch.bfloat16)


def _gemm_seconds(dtype: torch.dtype, tries: int = 5) -> float:
    a = torch.ones(GEMM, GEMM, dtype=dtype)
    best = float("inf")
    for _ in range(tries):
        begin = time.perf_counter()
        torch.mm(a, a)
        best = min(best, time.perf_counter() - begin)
    return best
