"""Training speed and peak memory against the length of a row: liquidlm and other models.

    python -m benchmarks.training_step [--vocab 261] [--lengths 1024 4096 16384 65536] [--peers llama …]
    python -m benchmarks.training_step --flatness 65536

A step is forward, backward, gradient clipping and optimiser. Every model runs in the faster of bfloat16
autocast and float32. Results go to results/training_step.json after every length; runs with other
vocabularies, lengths or peers add to it. Without --text the ids are uniformly random: the worst case for our
embedding stage, which runs once per distinct id.
"""

import argparse
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from benchmarks.limits import count, product_rates, product_seconds
from benchmarks.machine import add_results, machine, read_results, without_kernels, write_results
from benchmarks.peers import MODELS, OURS, STEPWISE, build, parameters, recipe
from benchmarks.plots import redraw
from benchmarks.timing import (
    MEMORY_SHARE,
    interleaved,
    measured_in_child,
    medians,
    ratios,
    report_step,
    total_memory,
)
from liquidlm import LEDTokenizerWrapper, LiquidTextGenerationModel
from liquidlm.runtime.precision import autocast
from liquidlm.training.optim import clip_gradients

NAME = "training_step"
MARGIN = 1.5
"""Nats over ln V that a loss may have at the start; Mamba-2's initialisation in transformers has 1.2."""

CPU = torch.device("cpu")
IN_TORCH = f"{OURS} in torch"
"""Ours without the compiled kernels."""
LIMIT = f"products of {OURS} alone"
"""The matrix products of our step at the machine's rate: no step that computes them is faster."""
Figures = dict[str, Any]


class TrainingStep:
    """One training step of one model, as often as called: forward, backward, clipping, optimiser.

    `optimiser` is a recipe of peers.recipe; by default the model's usual one. On the CPU, or on `device`.
    """

    def __init__(
        self,
        name: str,
        vocab: int,
        ids: Int[Tensor, "b t"],
        bf16: bool,
        optimiser: str | None = None,
        device: torch.device = CPU,
    ):
        torch.manual_seed(0)
        self.model = build(name, vocab, ids.shape[1]).train().to(device)
        self.ids, self.bf16 = ids.to(device), bf16
        usual = "muon" if name.endswith(OURS) else "adamw"
        optimisers = recipe(self.model, optimiser or usual, 1e-3)
        self._update = lambda: optimisers.step(step=0, progress=0.0)

    def gradient(self) -> None:
        """Forward and backward."""
        with autocast(self.ids.device, self.bf16):
            loss = self.model.loss(self.ids)
        loss.backward()

    def update(self) -> None:
        """Clipping and optimiser."""
        clip_gradients(self.model.parameters())
        self._update()
        if self.ids.is_cuda:
            torch.cuda.synchronize()

    def __call__(self) -> None:
        self.gradient()
        self.update()


class TorchStep(TrainingStep):
    """A training step of ours without the compiled kernels."""

    def __call__(self) -> None:
        with without_kernels():
            super().__call__()


def random_ids(vocab: int, rows: int, length: int) -> Int[Tensor, "b t"]:
    return torch.randint(0, vocab, (rows, length), generator=torch.Generator().manual_seed(0))


def text_ids(file: str, vocab: int, tokens: int) -> Int[Tensor, " n"]:
    """The first `tokens` ids of a text: its bytes for the byte vocabulary, else of a BPE learned from it."""
    text = Path(file).read_text(encoding="utf-8")
    tokenizer = LEDTokenizerWrapper.bytes()
    if tokenizer.vocab_size != vocab:
        tokenizer = LEDTokenizerWrapper.train([text], vocab)
    ids = torch.from_numpy(tokenizer.encode(text)[:tokens].astype(np.int64))
    if len(ids) < tokens:
        raise SystemExit(f"{file} has only {len(ids)} tokens, and a step needs {tokens}")
    return ids


def check_ours() -> float:
    """One pass over 50 tokens (the parallel forms) equals 50 passes over one (the reference loops).

    In float64 with noise on every parameter; returns the largest difference of the logits.
    """
    torch.manual_seed(0)
    sizes = {"vocab_size": 64, "embedding_dim": 16, "latent_dim": 8, "hidden_size": 32}
    model = LiquidTextGenerationModel(**sizes, dropout_rate=0.0).eval().double()
    ids, state = random_ids(64, 2, 50), model.new_state()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        whole = model(ids).logits
        steps = [model(token, past_key_values=state, use_cache=True).logits for token in ids.split(1, dim=1)]
    difference = (torch.cat(steps, 1) - whole).abs().max().item()
    assert difference < 1e-9, difference
    return difference


def check_loss(name: str, vocab: int) -> float:
    """The loss at the start, on random ids: finite, and not far above that of knowing nothing, ln V."""
    torch.manual_seed(0)
    with torch.no_grad():
        loss = build(name, vocab, 16).eval().loss(random_ids(vocab, 2, 16)).item()
    assert 0 < loss < math.log(vocab) + MARGIN, (name, loss)  # false also for NaN
    return loss


def bf16_is_faster(name: str, vocab: int, tokens: int = 1024, device: torch.device = CPU) -> bool:
    """Whether a step of so many tokens, for STEPWISE 16, is faster under bfloat16 autocast."""
    ids = random_ids(vocab, 1, 16) if name in STEPWISE else random_ids(vocab, tokens // 256, 256)
    steps = {str(bf16): TrainingStep(name, vocab, ids, bf16, device=device) for bf16 in (False, True)}
    seconds = medians(interleaved(dict(steps), 3))
    return seconds["True"] < seconds["False"]


def alone(name: str, vocab: int, rows: int, length: int, bf16: bool, limit: float) -> Figures:
    """Seconds and memory of one step in its own process, or why it did not finish."""
    shape = ["--lengths", str(length), "--tokens", str(rows * length)]
    options = ["--vocab", str(vocab), *shape, "--limit", str(limit), *(["--bf16"] if bf16 else [])]
    return measured_in_child(["-m", "benchmarks.training_step", "--measure", name, *options])


def reach(name: str, vocab: int, upto: int, bf16: bool, limit: float) -> Figures:
    """How long one row may get, doubled from 16 tokens until `upto`, the time limit or the memory says stop.

    {"length", "seconds", "peak_memory_bytes", "stopped", "ours_seconds"} of the longest step that finished.
    """
    best: Figures = {"length": 0, "stopped": ""}
    length = min(16, upto)
    while length <= upto:
        found = alone(name, vocab, 1, length, bf16, limit)
        if "failed" in found:
            best["stopped"] = found["failed"]
            break
        seconds, peak = found["seconds"], found["peak_bytes"]
        best |= {"length": length, "seconds": seconds, "peak_memory_bytes": peak}
        print(f"{name:16} 1 x {length:<6} {seconds:8.2f} s alone", flush=True)
        length *= 2
        if length <= upto and 2 * seconds > limit:
            best["stopped"] = f"{length} tokens would take over {limit:g} s"
        elif length <= upto and 2 * peak > MEMORY_SHARE * total_memory():
            best["stopped"] = f"{length} tokens would need {2 * peak / 2**30:.0f} GiB"
        if best["stopped"]:
            break
    if best["length"]:
        best["tokens_per_second"] = best["length"] / best["seconds"]
        best["ours_seconds"] = alone(OURS, vocab, 1, best["length"], bf16, limit).get("seconds")
    return best


@dataclass
class Comparison:
    """Models of one vocabulary timed against each other, one length after another.

    Attributes:
        given: the command line's arguments.
        bf16: per model, whether it runs under bfloat16 autocast.
        reach: how long a row of each stepwise peer may get.
        known: per model, the figures of the last length.
    """

    given: argparse.Namespace
    bf16: dict[str, bool]
    reach: Figures
    known: Figures = field(default_factory=dict)

    @classmethod
    def prepare(cls, given: argparse.Namespace) -> "Comparison":
        """Check every model, choose its precision, and find out how far the stepwise peers get."""
        bf16 = {}
        for name in dict.fromkeys([OURS, *given.peers]):
            check_loss(name, given.vocab)
            bf16[name] = bf16_is_faster(name, given.vocab)
            print(f"{name:16} {'bfloat16' if bf16[name] else 'float32'} is faster", flush=True)
        found = {
            name: reach(name, given.vocab, max(given.lengths), bf16[name], given.limit)
            for name in bf16
            if name in STEPWISE
        }
        return cls(given, bf16, found)

    def _hopeless(self, name: str, rows: int, length: int) -> str:
        """Why a peer cannot finish such a step, as far as is known without trying; empty where it may."""
        before, reached = self.known.get(name, {}), self.reach.get(name)
        if before.get("left_out"):
            return before["left_out"]
        if reached and 2 * reached["length"] <= length:
            return f"one row alone ended at {reached['length']} tokens: {reached['stopped']}"
        if before:  # a step takes at least in proportion to its tokens
            predicted = before["seconds_median"] * rows * length / before["tokens"]
            if predicted > self.given.limit:
                return f"predicted to take at least {predicted:.0f} s"
        return ""

    def _tried(self, name: str, rows: int, length: int) -> Figures:
        """The peak memory of a step alone; with "left_out" where a peer does not finish it."""
        why = "" if name == OURS else self._hopeless(name, rows, length)
        if not why and not self.given.memory:
            return {}
        found = {"failed": why}
        if not why:
            found = alone(name, self.given.vocab, rows, length, self.bf16[name], self.given.limit)
        entry = {"peak_memory_bytes": found.get("peak_bytes")}
        if "failed" in found:  # ours is timed all the same: without it there is nothing to compare
            entry["alone" if name == OURS else "left_out"] = found["failed"]
        return entry

    def at(self, length: int) -> Figures:
        """Figures per model at one length; "left_out": why, of a peer that is not timed.

        "ours_over_it" is the ratio of the tokens per second, the median over rounds.
        """
        given = self.given
        rows = max(1, given.tokens // length)
        ids = random_ids(given.vocab, rows, length)
        if given.text:
            ids = text_ids(given.text, given.vocab, rows * length).view(rows, length)
        entries = {name: self._tried(name, rows, length) for name in self.bf16}
        for name, entry in entries.items():
            print(f"{name:16} {rows} x {length:<6} {entry.get('left_out', 'is timed')}", flush=True)
        steps = {
            name: TrainingStep(name, given.vocab, ids, self.bf16[name])
            for name, entry in entries.items()
            if "left_out" not in entry
        }
        steps[IN_TORCH] = TorchStep(OURS, given.vocab, ids, self.bf16[OURS])
        entries[IN_TORCH] = {}
        seconds = interleaved(dict(steps), given.rounds)
        middle, over_ours = medians(seconds), ratios(seconds, OURS)
        for name, step in steps.items():
            entries[name] |= {
                "rows": rows,
                "tokens": ids.numel(),
                "distinct_ids": len(ids.unique()),
                "parameters": parameters(step.model),
                "dtype": "bfloat16" if step.bf16 else "float32",
                "seconds": seconds[name],
                "seconds_median": middle[name],
                "tokens_per_second": ids.numel() / middle[name],
                "ours_over_it": over_ours[name],
                "commit": machine()["commit"],
            }
            print(f"{name:16} {rows} x {length:<6} {middle[name]:8.2f} s", flush=True)
        self.known |= entries
        operations = count(steps[OURS])
        least = math.fsum(product_seconds(operations, product_rates(operations, given.size)).values())
        entries[LIMIT] = {"seconds_median": least, "tokens_per_second": ids.numel() / least}
        print(f"{LIMIT:16} {rows} x {length:<6} {least:8.2f} s", flush=True)
        return entries


def flatness(vocab: int, short: int, long: int, rounds: int) -> Figures:
    """Ours alone: tokens per second at 1 x `long` against (long/short) x `short`, the same tokens."""
    bf16 = bf16_is_faster(OURS, vocab)
    rows = max(1, long // short)
    shapes = {f"{rows} x {short}": (rows, short), f"1 x {rows * short}": (1, rows * short)}
    steps = {
        shape: TrainingStep(OURS, vocab, random_ids(vocab, *size), bf16) for shape, size in shapes.items()
    }
    seconds = interleaved(dict(steps), rounds)
    base, last = shapes
    return {
        "dtype": "bfloat16" if bf16 else "float32",
        "seconds": seconds,
        "tokens_per_second": {shape: rows * short / each for shape, each in medians(seconds).items()},
        "longest_over_shortest": 1 / ratios(seconds, base)[last],
        "commit": machine()["commit"],
    }


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=NAME, description=__doc__)
    parser.add_argument("--vocab", type=int, default=261, help="261 (bytes), 8000, …")
    parser.add_argument("--lengths", type=int, nargs="+", default=[1024, 4096, 16384, 65536])
    parser.add_argument("--tokens", type=int, default=16384, help="tokens per step, in at least one row")
    parser.add_argument("--peers", nargs="*", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--limit", type=float, default=120, help="skip a step that takes more seconds")
    parser.add_argument("--memory", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--size", type=int, default=4096, help="of the matrices that measure the rate")
    parser.add_argument("--text", help="take the token ids from this file")
    parser.add_argument(
        "--flatness",
        type=int,
        metavar="T",
        help="only liquidlm: one row of T tokens against rows of the shortest length",
    )
    parser.add_argument("--measure", metavar="NAME", choices=list(MODELS), help=argparse.SUPPRESS)
    parser.add_argument("--bf16", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    given = arguments(argv)
    if given.measure:
        length = given.lengths[0]
        ids = random_ids(given.vocab, max(1, given.tokens // length), length)
        report_step(lambda: TrainingStep(given.measure, given.vocab, ids, given.bf16), given.limit)
        return
    write_results(NAME, {**read_results(NAME), "largest_difference_of_logits": check_ours()})
    if given.flatness:
        found = flatness(given.vocab, min(given.lengths), given.flatness, given.rounds)
        add_results(NAME, "flatness", str(given.vocab), found)
        print(f"tokens per second, longest over shortest: {found['longest_over_shortest']:.3f}")
        return
    comparison = Comparison.prepare(given)
    add_results(NAME, "reach_of_one_row", str(given.vocab), comparison.reach)
    for length in sorted(given.lengths):
        add_results(NAME, "lengths", f"{given.vocab}/{length}", comparison.at(length))
        redraw(NAME)


if __name__ == "__main__":
    main()
