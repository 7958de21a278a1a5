"""Time of a written token after contexts of several lengths: liquidlm, and Llama with its cache.

    python -m benchmarks.run generation [--contexts 1024 16384] [--batches 1 8 32]

Bare steps, the likeliest token fed back. Llama runs in float32 and bfloat16, with transformers' growing and
its static cache, and its best is compared with ours, in float32. Also what `generate()` of transformers adds
to our step. Writes results/generation.json and .png.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import DynamicCache, LlamaForCausalLM, StaticCache

from benchmarks.machine import machine, read_results, write_results
from benchmarks.peers import OURS, CausalLM, Ours, build, parameters
from benchmarks.plots import redraw
from benchmarks.timing import interleaved
from liquidlm import LiquidTextGenerationModel
from liquidlm.inference.generate import read
from liquidlm.model.step import LiquidStep

NAME = "generation"
VOCAB, TOKENS = 261, 16
LLAMAS = {
    f"llama {kind} {dtype}".replace("torch.", ""): (kind, dtype)
    for kind in ("growing", "static")
    for dtype in (torch.float32, torch.bfloat16)
}


def causal_lm(name: str, length: int = 0) -> Any:
    """The transformers model of a peer, or ours."""
    peer = build(name, VOCAB, length)
    assert isinstance(peer, Ours | CausalLM)
    return peer.model.eval()


def check(model: LiquidTextGenerationModel) -> float:
    """The lean step equals the model's forward; the largest difference of the logits."""
    ids = torch.randint(0, VOCAB, (2, 40))
    state, step = model(ids[:, :20], use_cache=True).past_key_values, LiquidStep(model)
    mine = torch.stack([step(token, state) for token in ids[:, 20:].unbind(1)], 1)
    difference = (mine - model(ids).logits[:, 20:]).abs().max().item()
    assert difference < 1e-3, difference
    return difference


def ours(model: LiquidTextGenerationModel, ids: Int[Tensor, "b t"]) -> Callable[[], None]:
    """Writes TOKENS tokens after `ids`."""
    state, step = model.new_state(), LiquidStep(model)
    logits = read(model, ids, state)

    def run() -> None:
        own, token = state.copy(), logits.argmax(-1)
        for _ in range(TOKENS):
            token = step(token, own).argmax(-1)

    return run


def llama(model: LlamaForCausalLM, ids: Int[Tensor, "b t"], kind: str) -> Callable[[], None]:
    """The same; each run goes on where the one before ended, a few tokens later."""
    length = ids.shape[1]
    cache: Any = DynamicCache(config=model.config)
    if kind == "static":
        cache = StaticCache(config=model.config, max_cache_len=length + 64 * TOKENS)
    token = ids[:, 0]
    for part in ids.split(1024, dim=1):
        logits = model(part, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
        token = logits[:, -1].argmax(-1)

    def run() -> None:
        nonlocal token
        for _ in range(TOKENS):
            output = model(token[:, None], past_key_values=cache, use_cache=True)
            token = output.logits[:, -1].argmax(-1)

    return run


def compared(context: int, batch: int, rounds: int) -> dict[str, Any]:
    """Milliseconds per token (of all rows together) of each, and ours against the best Llama."""
    torch.manual_seed(0)
    ids = torch.randint(5, VOCAB, (batch, context))
    runs: dict[str, Callable[[], object]] = {OURS: ours(causal_lm(OURS, context), ids)}
    for name, (kind, dtype) in LLAMAS.items():
        runs[name] = llama(causal_lm("llama", context + 64 * TOKENS).to(dtype), ids, kind)
    seconds = interleaved(runs, rounds)
    best = min(LLAMAS, key=lambda name: statistics.median(seconds[name]))
    return {
        "milliseconds_per_step": {n: 1000 * statistics.median(s) / TOKENS for n, s in seconds.items()},
        "tokens_per_second": {n: batch * TOKENS / statistics.median(s) for n, s in seconds.items()},
        "best_llama": best,
        "ours_over_it": statistics.median(b / a for a, b in zip(seconds[OURS], seconds[best], strict=True)),
    }


def generate_overhead(rounds: int, new: int = 100) -> dict[str, float]:
    """Milliseconds per token of our bare step, and of transformers' generate(), greedy."""
    model = causal_lm(OURS)
    ids = torch.randint(5, VOCAB, (1, 64))
    step, seconds = LiquidStep(model), {"step": [], "generate": []}

    def bare() -> Iterator[Tensor]:
        state = model.new_state()
        token = read(model, ids, state).argmax(-1)
        for _ in range(new):
            yield token
            token = step(token, state).argmax(-1)

    for _ in range(rounds):
        begin = time.perf_counter()
        mine = torch.cat(list(bare()))
        seconds["step"].append(time.perf_counter() - begin)
        begin = time.perf_counter()
        theirs = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, do_sample=False, eos_token_id=None
        )
        seconds["generate"].append(time.perf_counter() - begin)
        assert torch.equal(mine, theirs[0, ids.shape[1] :])
    return {name: 1000 * statistics.median(each) / new for name, each in seconds.items()}


@torch.no_grad()
def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog=NAME, description=__doc__)
    parser.add_argument("--contexts", type=int, nargs="+", default=[1024, 16384])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args(argv)
    torch.manual_seed(0)
    model = causal_lm(OURS)
    figures: dict[str, Any] = {"machine": machine(), "parameters": parameters(model)}
    figures["largest_difference_of_logits"] = check(model)
    figures["milliseconds_per_token"] = generate_overhead(given.rounds)
    figures["after"] = read_results(NAME).get("after", {})  # of other batches and contexts
    for batch in given.batches:
        for context in given.contexts:
            found = compared(context, batch, given.rounds)
            figures["after"][f"{batch}/{context}"] = found
            write_results(NAME, figures)
            print(f"batch {batch} after {context}: {found['ours_over_it']:.2f} x {found['best_llama']}")
    redraw(NAME)


if __name__ == "__main__":
    main()
