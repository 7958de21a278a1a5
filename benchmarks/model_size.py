"""Training speed by size of the model: the sizes of `liquidlm train`, bytes, steps of 8 × 256 tokens.

    python -m benchmarks.model_size [--threads 2] [--rounds 5]

All sizes are timed in turn, on the GPU where there is one.
"""

import argparse
from typing import Any

import torch
from torch import Tensor

from benchmarks.language_models import Ours
from benchmarks.machine import write_results
from benchmarks.peers import parameters, recipe
from benchmarks.timing import interleaved, medians, ratios
from benchmarks.training_step import random_ids
from liquidlm import LiquidConfig, LiquidTextGenerationModel
from liquidlm.runtime.precision import autocast, best_device, bf16_is_faster
from liquidlm.training.optim import clip_gradients
from liquidlm.training.settings import SIZES

NAME = "model_size"
VOCAB, ROWS, LENGTH = 261, 8, 256


class Step:
    """A training step of a new model: forward, backward, clipping, optimiser."""

    def __init__(self, size: str, ids: Tensor, bf16: bool):
        torch.manual_seed(0)
        sizes: dict[str, Any] = {**SIZES[size], "vocab_size": VOCAB, "dropout_rate": 0.0}
        config = LiquidConfig(**sizes)
        self.model = Ours(LiquidTextGenerationModel(config)).train().to(ids.device)
        self.ids, self.bf16 = ids, bf16
        self.optimisers = recipe(self.model, "muon", 1e-3)

    def __call__(self) -> None:
        with autocast(self.ids.device, self.bf16):
            loss = self.model.loss(self.ids)
        loss.backward()
        clip_gradients(self.model.parameters())
        self.optimisers.step(step=0, progress=0.0)
        if self.ids.is_cuda:
            torch.cuda.synchronize()


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog=NAME, description=__doc__)
    parser.add_argument("--threads", type=int, help="CPU threads; by default all cores")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args(argv)
    if given.threads:
        torch.set_num_threads(given.threads)
    device = best_device()
    ids, bf16 = random_ids(VOCAB, ROWS, LENGTH).to(device), bf16_is_faster(device)
    steps = {size: Step(size, ids, bf16) for size in SIZES}
    seconds = interleaved(dict(steps), given.rounds)
    figures = {
        "dtype": "bfloat16" if bf16 else "float32",
        "shape": [ROWS, LENGTH],
        "parameters": {size: parameters(step.model) for size, step in steps.items()},
        "seconds": seconds,
        "tokens_per_second": {size: ids.numel() / each for size, each in medians(seconds).items()},
        "times_as_long_as_small": ratios(seconds, "small"),
    }
    write_results(NAME, figures)
    for size, speed in figures["tokens_per_second"].items():
        print(f"{size:6} {figures['parameters'][size]:>11,} parameters {speed:9,.0f} tokens per second")


if __name__ == "__main__":
    main()
