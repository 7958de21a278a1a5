"""Share of embedding, flow and ODE in a training step.

    python -m benchmarks.embedding_share [--vocab 32000] [--rows 8] [--length 1024]

At the recommended sizes. The stage runs once per distinct id, so that ids follow Zipf's law, as words do:
the k-th most frequent has a probability proportional to 1/k. Writes results/embedding_share.json and .png.
"""

import argparse
from collections.abc import Callable
from typing import cast

import torch
from jaxtyping import Int
from torch import Tensor

from benchmarks.machine import write_results
from benchmarks.plots import redraw
from benchmarks.timing import interleaved, medians, ratios
from liquidlm import LiquidTextGenerationModel
from liquidlm.runtime.precision import autocast, bf16_is_faster
from liquidlm.training.optim import clip_gradients, liquid_optimisers

NAME = "embedding_share"


def zipf_ids(vocab: int, rows: int, length: int) -> Int[Tensor, "b t"]:
    """Independent draws with P(k) ∝ 1/(k + 1), k = 0…V−1."""
    weights = 1 / torch.arange(1, vocab + 1, dtype=torch.float64)
    drawn = weights.multinomial(rows * length, replacement=True, generator=torch.Generator().manual_seed(0))
    return drawn.view(rows, length)


def steps_of(
    model: LiquidTextGenerationModel, ids: Int[Tensor, "b t"], bf16: bool
) -> dict[str, Callable[[], object]]:
    """A whole training step, and the embedding stage's part of it: forward with its term, and backward."""
    model.train()
    optimisers = liquid_optimisers(model)
    with torch.no_grad():
        upstream = torch.randn(*ids.shape, model.config.hidden_size)
    times = torch.linspace(0, 1, model.config.ode_steps + 1)

    def whole() -> None:
        with autocast(ids.device, bf16):
            loss = model(ids, labels=ids, use_cache=False).loss
        cast(Tensor, loss).backward()
        clip_gradients(model.parameters())
        optimisers.step(step=0, progress=0.0)

    def embedding() -> None:
        with autocast(ids.device, bf16):
            x, _, flow_loss = model.embedding(ids, None, times, return_flow_loss=True)
        torch.autograd.backward([x, model.config.flow_loss_weight * flow_loss], [upstream.to(x), None])
        model.zero_grad(set_to_none=True)

    return {"step": whole, "embedding": embedding}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog=NAME, description=__doc__)
    parser.add_argument("--vocab", type=int, default=32000)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--length", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=9)
    given = parser.parse_args(argv)
    torch.manual_seed(0)
    model = LiquidTextGenerationModel(given.vocab, 512, 128, 256, num_hidden_layers=4)
    ids = zipf_ids(given.vocab, given.rows, given.length)
    bf16 = bf16_is_faster(ids.device)
    seconds = interleaved(steps_of(model, ids, bf16), given.rounds)
    figures = {
        "dtype": "bfloat16" if bf16 else "float32",
        "shape": [given.rows, given.length],
        "vocabulary": given.vocab,
        "distinct_ids": len(ids.unique()),
        "seconds": seconds,
        "seconds_median": medians(seconds),
        "share_of_the_step": ratios(seconds, "step")["embedding"],
    }
    write_results(NAME, figures)
    redraw(NAME)
    print(f"embedding stage: {figures['share_of_the_step']:.1%} of the step")


if __name__ == "__main__":
    main()
