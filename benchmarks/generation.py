"""Time of a written token after contexts of several lengths: ours, and Llama in llama.cpp and transformers.

    python -m benchmarks.run generation [--contexts 16 1024 16384] [--batches 1 8 32]

Bare steps, the likeliest token fed back, of models of equal size with random weights. Ours runs with int8,
bfloat16 and float32 weights, in torch without the kernels, and as its ONNX export in onnxruntime. Llama runs
in llama.cpp (float32 and Q8_0) and in transformers, with its growing and its static cache. The limit is the
time to read the weights and the state once, at the machine's bandwidth. Also what `generate()` of
transformers adds to our step. Writes results/generation.json and .png.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from transformers import DynamicCache, LlamaForCausalLM, StaticCache

from benchmarks import llama_cpp
from benchmarks.language_models import Ours
from benchmarks.limits import bandwidth
from benchmarks.machine import machine, read_results, without_kernels, write_results
from benchmarks.peers import OURS, CausalLM, build, parameters
from benchmarks.plots import redraw
from benchmarks.timing import interleaved
from liquidlm import LiquidTextGenerationModel
from liquidlm.inference.export import ExportedStep, write_graph
from liquidlm.inference.generate import read
from liquidlm.model.step import LiquidStep
from liquidlm.ops.native.step import Weights

NAME = "generation"
VOCAB, TOKENS = 261, 16
WEIGHTS: dict[Weights, int] = {"int8": 1, "bf16": 2, "float32": 4}
"""The types of our weights, and the bytes of each."""
LIMIT = "weights and state at the machine's bandwidth"
CACHES = ("growing", "static")
Run = Callable[[], object]


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


def ours(model: LiquidTextGenerationModel, ids: Int[Tensor, "b t"], step: LiquidStep) -> Run:
    """Writes TOKENS tokens after `ids`."""
    state = model.new_state()
    logits = read(model, ids, state)

    def run() -> None:
        own, token = state.copy(), logits.argmax(-1)
        for _ in range(TOKENS):
            token = step(token, own).argmax(-1)

    return run


def in_onnxruntime(model: LiquidTextGenerationModel, rows: int, folder: Path) -> Run:
    """The same by our export. Its time does not depend on what was read before."""
    import onnxruntime

    exported = ExportedStep(model)
    write_graph(exported, folder / "step.onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(folder / "step.onnx"), options)
    first = {name: part.numpy() for name, part in zip(exported.names, exported.zeros(rows), strict=True)}

    def run() -> None:
        state, ids = first, np.zeros(rows, np.int64)
        for _ in range(TOKENS):
            logits, *after = session.run(None, {"ids": ids, "gap": np.ones(rows, np.float32), **state})
            state, ids = dict(zip(state, after, strict=True)), np.asarray(logits).argmax(-1)

    return run


def in_llama_cpp(llama: llama_cpp.LlamaCpp, ids: Int[Tensor, "b t"]) -> Run:
    """The same by llama.cpp; each run goes on where the one before ended."""
    token = llama.read(ids).argmax(-1)

    def run() -> None:
        nonlocal token
        for _ in range(TOKENS):
            token = llama.read(token[:, None]).argmax(-1)

    return run


def in_transformers(model: LlamaForCausalLM, ids: Int[Tensor, "b t"], kind: str) -> Run:
    """The same by transformers."""
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


def least_seconds(model: LiquidTextGenerationModel, rows: int, each: int) -> float:
    """Seconds to read all weights of `each` bytes once, and to read and write the state of every row."""
    state = model.new_state()
    read(model, torch.zeros(1, 1, dtype=torch.long), state)
    matrices = sum(p.numel() for p in [*model.blocks.parameters(), *model.output_proj.parameters()])
    size = each * matrices + 2 * rows * state.nbytes
    return size / bandwidth(size)


def compared(context: int, batch: int, rounds: int) -> dict[str, Any]:
    """Milliseconds per token (of all rows together) of each, and ours against the others."""
    torch.manual_seed(0)
    ids = torch.randint(5, VOCAB, (batch, context))
    model, length = causal_lm(OURS, context), context + 64 * TOKENS
    theirs = causal_lm("llama", length)
    with ExitStack() as stack:
        runs: dict[str, Run] = {
            f"{OURS} {weights}": ours(model, ids, LiquidStep(model, weights=weights)) for weights in WEIGHTS
        }
        with without_kernels():
            runs[f"{OURS} in torch"] = ours(model, ids, LiquidStep(model))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        runs[f"{OURS} in onnxruntime"] = in_onnxruntime(model, batch, folder)
        for kind in llama_cpp.TYPES:
            llama = stack.enter_context(llama_cpp.LlamaCpp(theirs, kind, length, batch))
            runs[f"llama.cpp {kind}"] = in_llama_cpp(llama, ids)
        for kind in CACHES:
            runs[f"llama {kind} float32"] = in_transformers(theirs, ids, kind)
        seconds = interleaved(runs, rounds)
    fastest = f"{OURS} int8"
    milliseconds = {name: 1000 * statistics.median(each) / TOKENS for name, each in seconds.items()}
    for weights, size in WEIGHTS.items():
        milliseconds[f"{LIMIT}, {weights}"] = 1000 * least_seconds(model, batch, size)
    return {
        "milliseconds_per_step": milliseconds,
        "tokens_per_second": {name: 1000 * batch / each for name, each in milliseconds.items()},
        "int8_over_it": {
            name: statistics.median(b / a for a, b in zip(seconds[fastest], each, strict=True))
            for name, each in seconds.items()
        },
        "commit": machine()["commit"],
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
    parser.add_argument("--contexts", type=int, nargs="+", default=[16, 1024, 16384])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args(argv)
    if not all(map(find_spec, ("llama_cpp", "gguf"))):
        raise SystemExit("this compares with llama.cpp: pip install -e '.[llama]' (takes minutes)")
    torch.manual_seed(0)
    model = causal_lm(OURS)
    figures: dict[str, Any] = {"machine": machine(), "parameters": parameters(model)}
    figures["largest_difference_of_logits"] = check(model)
    figures["llama_cpp_difference"] = llama_cpp.check(causal_lm("llama", 64))
    figures["milliseconds_per_token"] = generate_overhead(given.rounds)
    before = read_results(NAME).get("after", {})  # other batches and contexts
    figures["after"] = {key: each for key, each in before.items() if "int8_over_it" in each}
    for batch in given.batches:
        for context in given.contexts:
            found = compared(context, batch, given.rounds)
            figures["after"][f"{batch}/{context}"] = found
            write_results(NAME, figures)
            for name, ratio in found["int8_over_it"].items():
                print(
                    f"{batch} rows after {context}: int8 is {ratio:.2f} times as fast as {name}", flush=True
                )
    redraw(NAME)


if __name__ == "__main__":
    main()
