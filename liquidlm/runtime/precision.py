"""The device and the precision to compute with: bfloat16 where it is faster."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..errors import LiquidError
from .device_names import APPLE, check_device_name, no_float64
from .offload import at_hand

GEMM = 512
"""Rows and columns of the matrices that are timed."""
GAIN = 1.2
"""The least speed of bfloat16 products, relative to float32, at which the casts pay off."""


def check_float64(device: torch.device) -> None:
    """Check that a device has float64, in which times are kept.

    Raises:
        LiquidError: the device is Apple's GPU, which does not have it.
    """
    if device.type == APPLE:
        raise no_float64()


def best_device() -> torch.device:
    """The GPU, or the CPU where there is no GPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def chosen_device(name: str | None = None) -> torch.device:
    """The device that a user names: `cpu`, `cuda`, `cuda:1`, …; without a name the GPU if there is one.

    Raises:
        LiquidError: there is no such device, or it has no float64, as Apple's GPU.
    """
    if name is None:
        return best_device()
    check_device_name(name)
    device = torch.device(name)
    count = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= count:
        found = f"{count} GPU{'s' if count > 1 else ''}" if count else "no GPU"
        raise LiquidError(
            f"device {name} is not available, torch finds {found} on this machine: use cpu"
            + (f" or cuda:0 to cuda:{count - 1}" if count else "")
        )
    return device


def autocast(device: torch.device, bf16: bool) -> AbstractContextManager:
    """A context with matrix products in bfloat16 if `bf16`; states, softmax and losses stay float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=bf16)


@contextmanager
def full_precision(x: Float[Tensor, "..."]) -> Iterator[Float[Tensor, "..."]]:
    """A context without autocast that gives x in at least float32.

    In bfloat16 a flow cannot be inverted, and an ODE does not converge.
    """
    with torch.autocast(x.device.type, enabled=False):
        yield x.to(torch.promote_types(x.dtype, torch.float32))


def product_dtype(x: Float[Tensor, "..."]) -> torch.dtype:
    """The type of a matrix product of x: the type of autocast, or of x itself."""
    if x.dtype != torch.float64 and torch.is_autocast_enabled(x.device.type):
        return torch.get_autocast_dtype(x.device.type)
    return x.dtype


def linear(layer: nn.Module, x: Float[Tensor, "... i"]) -> Float[Tensor, "... o"]:
    """layer(x) in the precision of x, even if the weights are stored in a lower precision."""
    if type(layer) is not nn.Linear or layer.weight.dtype == x.dtype:  # an adapter casts for itself
        return layer(x)
    with at_hand(layer):
        return F.linear(x, layer.weight.to(x), None if layer.bias is None else layer.bias.to(x))


def bf16_is_faster(device: torch.device) -> bool:
    """Whether bfloat16 matrix products are faster than float32; on a CPU this is measured in 0.1 s."""
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
