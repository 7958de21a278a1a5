"""Share of matrix products in a training step, at the machine's measured rate.

    python -m benchmarks.gemm_share [--vocab 261] [--rows 16] [--length 1024]

Counts the floating-point operations of every matrix product of one step, by type, divides them by the rate of
large products of that type, and compares with the step's time. Writes results/gemm_share.json and .png.
"""

import argparse

from benchmarks.limits import count, product_rates, product_seconds
from benchmarks.machine import write_results
from benchmarks.peers import OURS
from benchmarks.plots import redraw
from benchmarks.timing import interleaved, medians
from benchmarks.training_step import TrainingStep, bf16_is_faster, random_ids

NAME = "gemm_share"


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
    rates = product_rates(operations, given.size)
    needed = product_seconds(operations, rates)
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
