"""Share of matrix products in a training step, at the machine's measured rate.

    python -m benchmarks.gemm_share [--vocab 261] [--rows 16] [--length 1024]

Counts the floating-point operations of every matrix product of one step, by type, divides them by the rate of
large products of that type, and compares with the step's time. Writes results/gemm_share.json and .png.
"""

import argparse
import math
from collections import Counter
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.machine import write_results
from benchmarks.peers import OURS
from benchmarks.plots import redraw
from benchmarks.timing import interleaved, medians, seconds_of
from benchmarks.training_step import TrainingStep, bf16_is_faster, random_ids

NAME = "gemm_share"
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


def count(step: TrainingStep) -> dict[str, dict[str, dict[str, int]]]:
    """Operations of one step, by part, kind and type."""
    step()  # the optimisers' state exists from here on
    counted = {}
    for part, run in (("gradient", step.gradient), ("optimiser", step.update)):
        with ProductCounter() as counter:
            run()
        counted[part] = {"products": dict(counter.products), "solves": dict(counter.solves)}
    return counted


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog=NAME, description=__doc__)
    parser.add_argument("--vocab", type=int, default=261)
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--length", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--size", type=int, default=4096, help="size of the matrices that measure the rate")
    given = parser.parse_args(argv)
    bf16 = bf16_is_faster(OURS, given.vocab)
    step = TrainingStep(OURS, given.vocab, random_ids(given.vocab, given.rows, given.length), bf16)
    operations = count(step)
    used = {name for part in operations.values() for name in part["products"]}
    rates = {name: product_rate(getattr(torch, name), given.size) for name in sorted(used)}
    needed = {
        part: math.fsum(n / rates[name] for name, n in counted["products"].items())
        for part, counted in operations.items()
    }
    seconds = interleaved({"step": step}, given.rounds)
    whole = medians(seconds)["step"]
    figures = {
        "dtype": "bfloat16" if bf16 else "float32",
        "shape": [given.rows, given.length],
        "vocabulary": given.vocab,
        "operations": operations,
        "operations_per_second": rates,
        "step_seconds": seconds["step"],
        "step_seconds_median": whole,
        "product_seconds_at_the_machines_rate": needed,
        "share_of_the_step": sum(needed.values()) / whole,
        "share_of_the_step_without_the_optimisers_products": needed["gradient"] / whole,
    }
    write_results(NAME, figures)
    redraw(NAME)
    print(f"products at the machine's rate: {figures['share_of_the_step']:.1%} of the step")


if __name__ == "__main__":
    main()
