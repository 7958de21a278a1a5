"""Where to compute, and in what precision: bfloat16 where the machine is faster with it."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..errors import LiquidError
from .offload import at_hand

GEMM = 512
GAIN = 1.2
"""bfloat16 products must be this many times as fast as float32's, for the casts to pay."""


def check_float64(device: torch.device) -> None:
    """LiquidError for Apple's GPU: it has no float64, and times are kept in float64."""
    if device.type == "mps":
        raise LiquidError("Apple's GPU (mps) has no float64, and times are kept in float64: use the CPU")


def best_device() -> torch.device:
    """The GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def chosen_device(name: str | None = None) -> torch.device:
    """The device that a user names: `cpu`, `cuda`, `cuda:1`, …; without a name the GPU if there is one.

    Raises:
        LiquidError: there is no such device, or it has no float64, as Apple's GPU.
    """
    if name is None:
        return best_device()
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise LiquidError(f"unknown device {name!r}: give cpu, cuda, or cuda:N for GPU number N") from error
    check_float64(device)
    if device.type not in ("cpu", "cuda"):
        raise LiquidError(f"device {name} is not supported: give cpu, cuda, or cuda:N for GPU number N")
    count = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= count:
        found = f"{count} GPU{'s' if count > 1 else ''}" if count else "no GPU"
        raise LiquidError(
            f"device {name} is not available, torch finds {found} on this machine: use cpu"
            + (f" or cuda:0 to cuda:{count - 1}" if count else "")
        )
    return device


def autocast(device: torch.device, bf16: bool) -> AbstractContextManager:
    """Matrix products in bfloat16; states, rates, softmax and losses stay float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=bf16)


@contextmanager
def full_precision(x: Float[Tensor, "..."]) -> Iterator[Float[Tensor, "..."]]:
    """Autocast off, and x in at least float32: in bfloat16 a flow does not invert, nor an ODE converge."""
    with torch.autocast(x.device.type, enabled=False):
        yield x.to(torch.promote_types(x.dtype, torch.float32))


def product_dtype(x: Float[Tensor, "..."]) -> torch.dtype:
    """The type in which a matrix product of x is computed: autocast's, or x's own."""
    if x.dtype != torch.float64 and torch.is_autocast_enabled(x.device.type):
        return torch.get_autocast_dtype(x.device.type)
    return x.dtype


def linear(layer: nn.Module, x: Float[Tensor, "... i"]) -> Float[Tensor, "... o"]:
    """layer(x) in the precision of x, also where the weights are stored in a lower one."""
    if type(layer) is not nn.Linear or layer.weight.dtype == x.dtype:  # an adapter knows best
        return layer(x)
    with at_hand(layer):
        return F.linear(x, layer.weight.to(x), None if layer.bias is None else layer.bias.to(x))


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
