"""The machine's limits: what a training step and a written token need at least, if nothing else took time."""

import math
from collections import Counter
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.machine import without_kernels
from benchmarks.timing import seconds_of

Operations = dict[str, dict[str, dict[str, int]]]
"""Floating-point operations by part of a step, kind and type."""


class Step(Protocol):
    """A training step in two parts."""

    def gradient(self) -> None: ...

    def update(self) -> None: ...


FIRST_FACTOR = {"mm": 0, "bmm": 0, "addmm": 1, "baddbmm": 1}
"""Where the two factors of a product stand among its arguments."""


class ProductCounter(TorchDispatchMode):
    """Counts floating-point operations, a multiplication and an addition being two.

    Attributes:
        products: of matrix products, by type of the factors.
        solves: of triangular solves, by type; no product, and not counted as one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.products: Counter[str] = Counter()
        self.solves: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__.rstrip("_")
        if name in FIRST_FACTOR:
            a, b = args[FIRST_FACTOR[name] :][:2]
            self.products[_type(a)] += 2 * a.numel() * b.shape[-1]
        elif name == "linalg_solve_triangular":
            matrix, right = args[:2]
            self.solves[_type(matrix)] += right.numel() * matrix.shape[-1]
        return func(*args, **(kwargs or {}))


def _type(x: Tensor) -> str:
    return str(x.dtype).removeprefix("torch.")


def product_rate(dtype: torch.dtype, size: int, tries: int = 5) -> float:
    """Floating-point operations per second of a size × size product, the best of some tries."""
    a, b = (torch.randn(size, size).to(dtype) for _ in range(2))
    torch.mm(a, b)
    return 2 * size**3 / min(seconds_of(lambda: torch.mm(a, b)) for _ in range(tries))


def count(step: Step) -> Operations:
    """Operations of one step. The counter sees torch's operations alone, so the kernels are off."""
    step.gradient()
    step.update()  # the optimisers' state exists from here on
    counted = {}
    for part, run in (("gradient", step.gradient), ("optimiser", step.update)):
        with without_kernels(), ProductCounter() as counter:
            run()
        counted[part] = {"products": dict(counter.products), "solves": dict(counter.solves)}
    return counted


def product_rates(operations: Operations, size: int = 4096) -> dict[str, float]:
    """The rate of large products of each type that is used, in operations per second."""
    used = {name for part in operations.values() for name in part["products"]}
    return {name: product_rate(getattr(torch, name), size) for name in sorted(used)}


def product_seconds(operations: Operations, rates: dict[str, float]) -> dict[str, float]:
    """Seconds of the products of each part of a step at the machine's rate."""
    return {
        part: math.fsum(n / rates[name] for name, n in counted["products"].items())
        for part, counted in operations.items()
    }


def bandwidth(size: int, tries: int = 20) -> float:
    """Bytes per second at which all threads read so many bytes again and again."""
    data = torch.zeros(size // 4)
    data.sum()
    return 4 * data.numel() / min(seconds_of(data.sum) for _ in range(tries))
