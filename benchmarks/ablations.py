"""liquidlm with one choice changed at a time: bits per byte of held-out text at equal steps.

    python -m benchmarks.ablations [--variants NAME …] [--size tiny] [--recipe muon --lr 0.02] [--workers 2]

400 steps of 8 × 256 tokens, four blocks of width 256 or, "tiny", 128; results already in
results/ablations.json are kept. Products are in bfloat16 where the machine is faster with them.
"""

import argparse

from benchmarks.learning import Trial, run_trials
from benchmarks.texts import TEXTS
from benchmarks.variants import SIZES, VARIANTS
from liquidlm.runtime.precision import best_device, bf16_is_faster

NAME = "ablations"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog=NAME, description=__doc__)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--size", default="", choices=list(SIZES))
    parser.add_argument("--text", default="novels-en", choices=list(TEXTS))
    parser.add_argument("--recipe", default="muon", choices=["muon", "adamw"])
    parser.add_argument("--lr", type=float, default=0.02)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args(argv)
    bf16, size = bf16_is_faster(best_device()), f"{given.size}/" if given.size else ""
    shape = {"steps": given.steps, "rows": given.rows, "length": given.length, "bf16": bf16}
    trials = [
        Trial(given.text, size + name, given.recipe, given.lr, **shape, seed=seed)
        for seed in range(given.seeds)
        for name in given.variants
    ]
    results = run_trials(NAME, trials, given.workers)
    for trial in trials:
        found = results[trial.key]
        seconds = found.get("seconds", float("nan")) / trial.steps
        print(f"{trial.model:36} seed {trial.seed} {found.get('bits_per_byte')} {seconds:.3f} s/step")


if __name__ == "__main__":
    main()
