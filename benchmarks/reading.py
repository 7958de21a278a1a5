"""A very long prompt: speed, memory, and the time of a token after it.

    python -m benchmarks.run reading [DIR] [--tokens 1000000]

DIR is a trained model; without it, one of 3.9 M parameters and random weights (the cost does not depend on
them). Random ids. Writes results/reading.json and .png.
"""

import argparse
import statistics
import time

import torch
from jaxtyping import Int
from torch import Tensor

from benchmarks.machine import machine, write_results
from benchmarks.peers import OURS, Ours, build
from benchmarks.plots import redraw
from liquidlm import LiquidCache, LiquidTextGenerationModel
from liquidlm.inference.generate import read, write
from liquidlm.inference.sampling import Sampling
from liquidlm.inference.saving import load_model
from liquidlm.model.folded import FoldedEmbedding
from liquidlm.model.step import LiquidStep
from liquidlm.runtime.memory import peak_memory

NAME = "reading"
ROUNDS, WRITTEN = 21, 40


def fresh_model() -> LiquidTextGenerationModel:
    peer = build(OURS, 261, 0)
    assert isinstance(peer, Ours)
    return peer.model.eval()


def check(model: LiquidTextGenerationModel, ids: Int[Tensor, "1 t"]) -> float:
    """Reading in pieces equals reading at once; the largest difference of the logits."""
    pieces, whole = (
        read(model, ids, state, chunk=size)
        for state, size in ((model.new_state(), 500), (model.new_state(), ids.shape[1]))
    )
    difference = (pieces - whole).abs().max().item()
    assert difference < 1e-3 * whole.abs().max().item(), difference
    return difference


def token_seconds(
    model: LiquidTextGenerationModel, step: LiquidStep, state: LiquidCache, logits: Tensor
) -> float:
    """Seconds per written token, sampling included."""
    begin = time.perf_counter()
    written = sum(1 for _ in write(model, logits, state.copy(), Sampling(seed=0), WRITTEN, step=step))
    return (time.perf_counter() - begin) / written


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog=NAME, description=__doc__)
    parser.add_argument("model", nargs="?", help="folder of a trained model")
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--chunk", type=int, default=2048, help="tokens read at a time")
    given = parser.parse_args(argv)
    torch.manual_seed(0)
    model = load_model(given.model)[0] if given.model else fresh_model()
    ids = torch.randint(5, model.config.vocab_size, (1, given.tokens))
    step, state, table = LiquidStep(model), model.new_state(), FoldedEmbedding(model)
    figures = {"machine": machine(), "parameters": sum(p.numel() for p in model.parameters())}
    figures |= {"tokens": given.tokens, "chunk": given.chunk}

    loaded, seen, after, begin = peak_memory(), 0, {}, time.perf_counter()
    for length in sorted({min(n, given.tokens) for n in (1000, 16_000, 128_000, given.tokens)}):
        logits = read(model, ids[:, seen:length], state, chunk=given.chunk, table=table)
        after[length], seen = (state.copy(), logits), length
    figures["read_seconds"] = time.perf_counter() - begin
    figures["read_tokens_per_second"] = given.tokens / figures["read_seconds"]
    figures["peak_memory_over_the_loaded_model_bytes"] = peak_memory() - loaded
    figures["largest_difference_of_logits_in_pieces"] = check(model, ids[:, :8192])

    seconds: dict[int, list[float]] = {length: [] for length in after}
    for _ in range(ROUNDS):  # interleaved, so that the machine's moods meet every length alike
        for length, (then, logits) in after.items():
            seconds[length].append(token_seconds(model, step, then, logits))
    base = seconds[min(seconds)]
    figures |= {
        "state_bytes": {n: then.nbytes for n, (then, _) in after.items()},
        "milliseconds_per_token": {n: 1000 * statistics.median(each) for n, each in seconds.items()},
        "ratio_to_first": {
            n: statistics.median(a / b for a, b in zip(each, base, strict=True))
            for n, each in seconds.items()
        },
    }
    write_results(NAME, figures)
    redraw(NAME)
    for name in ("read_tokens_per_second", "peak_memory_over_the_loaded_model_bytes", "ratio_to_first"):
        print(name, figures[name])


if __name__ == "__main__":
    main()
