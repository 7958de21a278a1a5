"""A task that only timing solves: how long ago was the mark?

    python -m benchmarks.elapsed [--steps 600]

Noise, a mark, noise again, and a question: was the mark less than 1 before the question, or more? The number
of events between the two is drawn without regard to the time between them, so that their order says nothing.
Ours and a twin that is given no times are trained with 1 to 8 events in between, tested with 0 to 64.
"""

import argparse

import torch
from jaxtyping import Float64, Int
from torch import Tensor

from benchmarks.machine import add_results
from liquidlm import LiquidConfig, LiquidTextGenerationModel
from liquidlm.text.batches import IGNORED
from liquidlm.training.optim import clip_gradients, liquid_optimisers

NAME = "elapsed"
NOISE, MARK, QUESTION, SHORT, LONG = 4, 4, 5, 6, 7
"""Ids 0…NOISE − 1 are noise."""
VOCAB = 8
BEFORE = 4
"""Events of noise before the mark."""
TESTS = (0, 1, 4, 8, 16, 64)
"""Events between mark and question."""


def examples(
    rows: int, between: int, generator: torch.Generator
) -> tuple[Int[Tensor, "b t"], Float64[Tensor, "b t"], Int[Tensor, " b"]]:
    """Ids, times, and the answers. Times between mark and question: 0.1…0.8, or 1.25…10, logarithmically."""
    draw = {"generator": generator, "dtype": torch.float64}
    ids = torch.randint(0, NOISE, (rows, BEFORE + between + 2), generator=generator)
    ids[:, BEFORE], ids[:, -1] = MARK, QUESTION
    long = torch.rand(rows, **draw) < 0.5
    low, high = torch.where(long, 1.25, 0.1).log(), torch.where(long, 10.0, 0.8).log()
    passed = (low + (high - low) * torch.rand(rows, **draw)).exp()
    earlier = torch.rand(rows, BEFORE, **draw).sort(1).values * 10 - 10
    inside = torch.rand(rows, between, **draw).sort(1).values * passed[:, None]
    times = torch.cat([earlier, torch.zeros(rows, 1), inside, passed[:, None]], 1)
    return ids, times + 1e6 * torch.rand(rows, 1, **draw), torch.where(long, LONG, SHORT)


def learn(timed: bool, steps: int, seed: int = 0, rows: int = 64) -> LiquidTextGenerationModel:
    """A small model that has seen so many batches."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    sizes = {"hidden_size": 64, "embedding_dim": 16, "latent_dim": 8, "num_hidden_layers": 2, "num_heads": 2}
    sizes |= {"ngram_rows": 0, "intermediate_size": 96}
    config = LiquidConfig(vocab_size=VOCAB, dropout_rate=0.0, **sizes)  # pyright: ignore
    model = LiquidTextGenerationModel(config).train()
    optimisers = liquid_optimisers(model, 0.01)
    for step in range(steps):
        between = int(torch.randint(1, 9, (), generator=generator))
        ids, times, answers = examples(rows, between, generator)
        targets = torch.full_like(ids, IGNORED)
        targets[:, -1] = answers
        model(ids, timestamps=times if timed else None, shift_labels=targets).loss.backward()
        clip_gradients(model.parameters())
        optimisers.step(step, step / steps)
    return model.eval()


@torch.no_grad()
def right(model: LiquidTextGenerationModel, timed: bool, between: int, rows: int = 2000) -> float:
    """Share of right answers to new questions."""
    ids, times, answers = examples(rows, between, torch.Generator().manual_seed(between + 1))
    logits = model(ids, timestamps=times if timed else None, logits_to_keep=1).logits[:, -1]
    return (logits[:, [SHORT, LONG]].argmax(-1) == (answers == LONG).long()).double().mean().item()


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog=NAME, description=__doc__)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=1)
    given = parser.parse_args(argv)
    for timed, name in ((True, "ours"), (False, "twin without times")):
        for seed in range(given.seeds):
            model = learn(timed, given.steps, seed)
            found = {str(between): right(model, timed, between) for between in TESTS}
            add_results(NAME, name, f"{given.steps} steps, seed {seed}", found)
            print(name, seed, {between: f"{share:.4f}" for between, share in found.items()}, flush=True)


if __name__ == "__main__":
    main()
