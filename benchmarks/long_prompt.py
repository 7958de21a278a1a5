"""A long prompt: how fast it is read, in how much memory, and what a token costs after it.

    python -m benchmarks.long_prompt DIR BOOK [--tokens 65536]

DIR is a trained model, BOOK a text of at least so many tokens. Writes results/long_prompt.json and .png.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import torch

from benchmarks.machine import machine
from liquidlm import LiquidCache, LiquidTextGenerationModel
from liquidlm.corpus import read_documents
from liquidlm.evaluate import peak_memory
from liquidlm.folder import load_model
from liquidlm.generate import Sampling, read, write

RESULTS = Path(__file__).parent / "results"
ROUNDS, TOKENS = 15, 40


def check(model: LiquidTextGenerationModel, ids: torch.Tensor) -> float:
    """Reading in pieces equals reading at once; the largest difference of the logits."""
    pieces, whole = (
        read(model, ids, state, chunk=size)
        for state, size in ((model.new_state(), 500), (model.new_state(), 4096))
    )
    difference = (pieces - whole).abs().max().item()
    assert difference < 1e-3 * whole.abs().max().item(), difference
    return difference


def prefill(
    model: LiquidTextGenerationModel, ids: torch.Tensor, lengths: list[int]
) -> tuple[dict, list[float]]:
    """States (and logits) after each of `lengths` tokens of one reading, and the seconds each took."""
    state, seen, states, seconds = model.new_state(), 0, {}, []
    state.table = model.fold()
    begin = time.perf_counter()
    for length in lengths:
        logits = read(model, ids[:, seen:length], state)
        seconds.append(time.perf_counter() - begin)
        states[length] = (state.copy(), logits)
        seen = length
    return states, seconds


def token_seconds(model: LiquidTextGenerationModel, state: LiquidCache, logits: torch.Tensor) -> float:
    """Seconds per written token after a context."""
    begin = time.perf_counter()
    written = sum(1 for _ in write(model, logits, state.copy(), Sampling(seed=0), TOKENS))
    return (time.perf_counter() - begin) / written


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("book")
    parser.add_argument("--tokens", type=int, default=65536)
    given = parser.parse_args()
    model, tokenizer = load_model(given.model)
    loaded = peak_memory()
    text = "\n".join(document.text for document in read_documents([given.book]))
    ids = torch.tensor([[tokenizer.bos_token_id, *tokenizer.encode(text).tolist()]])[:, : given.tokens]
    assert ids.shape[1] == given.tokens, f"the book has only {ids.shape[1]} tokens"
    difference = check(model, ids[:, :4096])

    lengths = [length for length in (1000, 4000, 16000) if length < given.tokens] + [given.tokens]
    states, seconds = prefill(model, ids, lengths)
    times: dict[int, list[float]] = {length: [] for length in lengths}
    for _ in range(ROUNDS):  # interleaved, so that the machine's moods meet every length alike
        for length, (state, logits) in states.items():
            times[length].append(token_seconds(model, state, logits))
    base = times[lengths[0]]
    figures = {
        "machine": machine(),
        "parameters": sum(p.numel() for p in model.parameters()),
        "largest_logit_difference_in_pieces": difference,
        "tokens": given.tokens,
        "read_seconds": seconds[-1],
        "read_tokens_per_second": given.tokens / seconds[-1],
        "peak_memory_bytes": peak_memory(),
        "peak_memory_with_the_model_loaded_bytes": loaded,
        "state_bytes": {length: state.nbytes for length, (state, _) in states.items()},
        "milliseconds_per_token": {n: 1000 * statistics.median(t) for n, t in times.items()},
        "ratio_to_first": {
            n: statistics.median(a / b for a, b in zip(t, base, strict=True)) for n, t in times.items()
        },
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "long_prompt.json").write_text(json.dumps(figures, indent=1) + "\n")
    draw(times, RESULTS / "long_prompt.png")
    print(json.dumps(figures, indent=1))


def draw(times: dict[int, list[float]], file: Path) -> None:
    """Milliseconds per token against the length of the context."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(6, 3.2), layout="constrained")
    axis.boxplot(
        [[1000 * t for t in rounds] for rounds in times.values()], tick_labels=[f"{n:,}" for n in times]
    )
    axis.set(xlabel="tokens of context", ylabel="milliseconds per token", ylim=(0, None))
    axis.grid(alpha=0.3, axis="y")
    figure.savefig(file, dpi=130)


if __name__ == "__main__":
    main()
