"""A very long prompt: speed, memory, and the time of a token after it.

    python -m benchmarks.run reading [DIR] [--tokens 1000000] [--weights int8]

DIR is a trained model; without it, one of 3.9 M parameters and random weights (the cost does not depend on
them). Random ids, read by the kernel with these weights, as the commands do. Beside it, in turn, shorter
prompts with each type of weights, and by the model in torch alone. Writes results/reading.json and .png.
"""

import argparse
import statistics
import time
from contextlib import nullcontext

import torch
from jaxtyping import Int
from torch import Tensor

from benchmarks.language_models import Ours
from benchmarks.machine import machine, without_kernels, write_results
from benchmarks.peers import OURS, build
from benchmarks.plots import redraw
from liquidlm import LiquidCache, LiquidTextGenerationModel
from liquidlm.inference.generate import read, write
from liquidlm.inference.sampling import Sampling
from liquidlm.inference.saving import load_model
from liquidlm.model.folded import FoldedEmbedding
from liquidlm.model.step import LiquidStep
from liquidlm.ops.native.step import Weights
from liquidlm.runtime.memory import peak_memory

NAME = "reading"
ROUNDS, WRITTEN = 21, 40
SPEED_ROUNDS, SPEED_TOKENS = 5, 16_384
WEIGHTS: tuple[Weights, ...] = ("float32", "bf16", "int8")


def fresh_model() -> LiquidTextGenerationModel:
    peer = build(OURS, 261, 0)
    assert isinstance(peer, Ours)
    return peer.model.eval()


def check(model: LiquidTextGenerationModel, ids: Int[Tensor, "1 t"], step: LiquidStep) -> float:
    """Reading in pieces is reading at once to the bit, in float32 that of the model. Returns the largest
    difference of its logits."""
    pieces, whole = (
        read(model, ids, model.new_state(), chunk=size, step=step) for size in (500, ids.shape[1])
    )
    assert torch.equal(pieces, whole)
    exact = read(model, ids, model.new_state(), step=LiquidStep(model))
    by_model = read(model, ids, model.new_state())
    difference = (exact - by_model).abs().max().item()
    assert difference < 1e-3 * by_model.abs().max().item(), difference
    return difference


def speeds(model: LiquidTextGenerationModel, ids: Int[Tensor, "1 t"]) -> dict[str, float]:
    """Tokens per second by the model in torch alone, and by the kernel with each type of weights."""
    table, seconds = FoldedEmbedding(model), {}
    steps = {weights: LiquidStep(model, table, weights) for weights in WEIGHTS}
    for _ in range(SPEED_ROUNDS):
        for name, step in ({"torch": None} | steps).items():
            begin = time.perf_counter()
            with without_kernels() if step is None else nullcontext():
                read(model, ids, model.new_state(), table=table, step=step)
            seconds.setdefault(name, []).append(time.perf_counter() - begin)
    return {name: ids.shape[1] / statistics.median(each) for name, each in seconds.items()}


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
    parser.add_argument("--weights", choices=WEIGHTS, default="int8")
    given = parser.parse_args(argv)
    torch.manual_seed(0)
    model = load_model(given.model)[0] if given.model else fresh_model()
    ids = torch.randint(5, model.config.vocab_size, (1, given.tokens))
    step, state = LiquidStep(model, weights=given.weights), model.new_state()
    figures = {"machine": machine(), "parameters": sum(p.numel() for p in model.parameters())}
    figures |= {"tokens": given.tokens, "chunk": given.chunk, "weights": given.weights}

    loaded, seen, after, begin = peak_memory(), 0, {}, time.perf_counter()
    for length in sorted({min(n, given.tokens) for n in (1000, 16_000, 128_000, given.tokens)}):
        logits = read(model, ids[:, seen:length], state, chunk=given.chunk, step=step)
        after[length], seen = (state.copy(), logits), length
    figures["read_seconds"] = time.perf_counter() - begin
    figures["read_tokens_per_second"] = given.tokens / figures["read_seconds"]
    figures["peak_memory_over_the_loaded_model_bytes"] = peak_memory() - loaded
    figures["largest_difference_of_logits_in_pieces"] = check(model, ids[:, :8192], step)
    figures["tokens_per_second"] = speeds(model, ids[:, :SPEED_TOKENS])

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
    for name in (
        "read_tokens_per_second",
        "tokens_per_second",
        "peak_memory_over_the_loaded_model_bytes",
        "ratio_to_first",
    ):
        print(name, figures[name])


if __name__ == "__main__":
    main()
