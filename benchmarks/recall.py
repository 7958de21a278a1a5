"""Memory by length: associative recall, passkey, copying, stacks, parity, permutations, arithmetic.

    python -m benchmarks.recall --tasks mqar passkey copying parity s3 s5 [--models liquidlm llama …]
    python -m benchmarks.recall --tasks palindrome stack stacks arithmetic brackets

Every model is trained on the task at short lengths and tested at longer ones; results already in
results/recall.json are kept.
"""

import argparse
import itertools
import math
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from benchmarks.language_models import LanguageModel
from benchmarks.peers import MODELS, OURS, WITH_RECENT_COUNTS, build, parameters, recipe
from benchmarks.plots import redraw
from benchmarks.pool import report, run_pool
from benchmarks.recall_tasks import (
    LETTERS,
    MODULUS,
    POP,
    SIGNS,
    STACKS,
    Examples,
    arithmetic,
    copying,
    mqar,
    palindrome,
    passkey,
    stacks,
    word_problem,
)
from liquidlm.runtime.precision import best_device
from liquidlm.text.batches import IGNORED
from liquidlm.training.optim import clip_gradients

NAME = "recall"
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Task:
    """A probe.

    Attributes:
        examples: (rows, length, load, generator) ▶ ids and targets.
        vocab: number of ids.
        trained, tested: (length, load) of training, one drawn per step, and of the tests.
        tokens: per training step, about.
        layers, width: of every model.
        rows, judged: in a training step at most; in a test of short rows.
        whole: a row counts only if all its answers are right.
        tied: whether the output layer is the embedding's table, in every model.
        choices: per model, what else it is given for this task.
    """

    examples: Callable[..., Examples]
    vocab: int
    trained: list[tuple[int, int]]
    tested: list[tuple[int, int]]
    steps: int
    tokens: int = 4096
    layers: int = 2
    width: int = 128
    rows: int = 64
    judged: int = 64
    whole: bool = False
    tied: bool = False
    choices: dict[str, dict[str, Any]] = field(default_factory=dict)


# What is counted is not to drift, as it does in any product of linear steps; an element's input is to be its
# own, whatever came before: no convolution.
COUNTING: dict[str, Any] = {
    "mixer_types": ["nonlinear", "nonlinear"],
    "ngram_rows": 0,
    "intermediate_size": 192,
    "conv_width": 1,
}
# One memory of 256 × 256 in place of four of 64 × 64. It comes first: after a time cell, whose slow units
# count on, it would write the more weakly the longer the list is. Pairs are drawn again each time: their
# n-grams are noise.
PAIRS: dict[str, Any] = {
    "num_heads": 1,
    "mixer_types": ["memory", "time"],
    "ngram_rows": 0,
    "intermediate_size": 384,
}
TASKS = {
    "mqar": Task(
        mqar,
        8192,
        [(64, 4), (128, 16), *[(256, 64)] * 3],  # few pairs ask for little of the memory
        [(256, 64), (512, 64), (512, 128), (1024, 256)],
        steps=1500,
        width=256,
        tied=True,  # untied, every token would have to be learned for itself
        choices={
            OURS: PAIRS,
            WITH_RECENT_COUNTS: PAIRS | {"count_orders": [1, 2]},
            "gated_delta": {"head": 256},
            "mamba2": {"state": 128},
        },
    ),
    "passkey": Task(
        passkey,
        64,
        [(128, 5), (256, 5), (512, 5), (1024, 5), (2048, 5)],
        [(2**n, 5) for n in (11, 15, 17, 18, 20)],
        steps=2000,
        whole=True,
        choices={
            OURS: {"ngram_rows": 0},  # the digits are drawn again each time: their n-grams are noise
            WITH_RECENT_COUNTS: {"ngram_rows": 0, "count_orders": [1, 2, 3, 4]},
        },
    ),
    **{
        name: Task(
            examples,
            LETTERS,
            [(17, 0), (33, 0), (65, 0), (129, 0)],
            [(n + 1, 0) for n in (32, 64, 128, 256, 512)],
            steps=1500,
        )
        for name, examples in (("copying", copying), ("palindrome", palindrome))
    },
    **{
        name: Task(
            stacks,
            POP + 1,
            [(n, count) for n in (24, 48, 96, 192)],
            [(n, count) for n in (192, 384, 768, 1536)],
            steps=1500,
        )
        for name, count in (("stack", 1), ("stacks", STACKS))
    },
    **{
        name: Task(
            word_problem(order),
            math.factorial(order),
            [(n, 0) for n in (4, 8, 16, 32, 64)],
            [(n, 0) for n in (64, 128, 256, 512, 1024)],
            steps=steps,
            tokens=2048,
            choices={OURS: COUNTING},
        )
        for name, order, steps in (("parity", 2, 2000), ("s3", 3, 3000), ("s5", 5, 3000))
    },
    **{
        name: Task(
            arithmetic,
            MODULUS + len(SIGNS),
            [(n, brackets) for n in range(4, 42, 2)],
            [(n, brackets) for n in (40, 64, 128, 256)],
            steps=3000,
            tokens=8192,
            rows=256,
            judged=1024,  # a row has one answer
            choices={OURS: COUNTING | {"conv_width": 4}},  # an operation and its digit are seen together
        )
        for name, brackets in (("arithmetic", 0), ("brackets", 1))
    },
}


@dataclass(frozen=True)
class Probe:
    """What defines a run: a task of TASKS, a model of peers.MODELS, and how it is trained."""

    task: str
    model: str
    recipe: str
    lr: float
    seed: int = 0

    @property
    def key(self) -> str:
        return " ".join(f"{name}={value}" for name, value in asdict(self).items())


def probe(given: Probe) -> dict[str, Any]:
    """Train on the task, test by length: {"accuracy": {"length/load": share of right answers}, …}"""
    task = TASKS[given.task]
    torch.manual_seed(given.seed)
    longest = max(length for length, _ in task.tested)
    sizes: dict[str, Any] = {"width": task.width, "layers": task.layers, "tied": task.tied}
    sizes |= task.choices.get(given.model, {})
    device = best_device()
    model = build(given.model, task.vocab, longest, **sizes).train().to(device)
    optimisers, generator = recipe(model, given.recipe, given.lr), torch.Generator(device)
    generator.manual_seed(given.seed)
    seconds, average = time.perf_counter(), 0.0
    for step in range(task.steps):
        # Lengths grow over the first half of the training, then all of them come.
        reach = min(1.0, 2 * (step + 1) / task.steps) * len(task.trained)
        known = task.trained[: max(1, math.ceil(reach))]
        length, load = known[int(torch.randint(0, len(known), (), generator=generator, device=device))]
        ids, targets = task.examples(min(task.rows, max(1, task.tokens // length)), length, load, generator)
        loss, _ = model(ids, targets)
        loss.backward()
        clip_gradients(model.parameters())
        optimisers.step(step, step / task.steps)
        average = loss.item() if step == 0 else 0.95 * average + 0.05 * loss.item()
        if (step + 1) % (task.steps // 10) == 0:
            print(f"{given.key}: step {step + 1} loss {average:.4f}", file=sys.stderr, flush=True)
    seconds = time.perf_counter() - seconds
    tests: dict[str, float] = {}
    for length, load in task.tested:
        tests[f"{length}/{load}"] = accuracy(model, task, length, load, device)
        if tests[f"{length}/{load}"] == 0:
            break  # longer ones are left out
    return {"accuracy": tests, "parameters": parameters(model), "seconds": seconds, "training_loss": average}


@torch.no_grad()
def accuracy(model: LanguageModel, task: Task, length: int, load: int, device: torch.device = CPU) -> float:
    """Share of right answers in the task's rows, in 20 where a row has over 2¹⁵ tokens, in 8 over 2¹⁸."""
    model.eval()
    generator = torch.Generator(device).manual_seed(123)
    rows = task.judged if length <= 2**15 else 20 if length <= 2**18 else 8
    right: list[Tensor] = []
    together = 4 if model.carries else min(4, max(1, 2**15 // length))  # a whole row at a time takes memory
    for first in range(0, rows, 4):
        ids, targets = task.examples(min(4, rows - first), length, load, generator)
        wanted = targets != IGNORED
        correct = torch.cat([answers(model, part) for part in ids.split(together)]) == targets
        if task.whole:
            right.append((correct | ~wanted).all(1))
        else:
            right.append(correct[wanted])
    return torch.cat(right).double().mean().item()


def answers(model: LanguageModel, ids: Int[Tensor, "b t"]) -> Int[Tensor, "b t"]:
    """The most likely answer at every position."""
    state, found = None, []
    for piece in ids.split(2048 if model.carries else ids.shape[1], 1):
        logits, state = model.logits(piece, state)
        found.append(logits.argmax(-1))
    return torch.cat(found, 1)


def best(results: dict[str, Any], task: str) -> dict[str, Any]:
    """Per model, the run with the lowest training loss: the learning rate is not chosen by the test."""
    found: dict[str, Any] = {}
    for entry in results.values():
        if entry["task"] == task and "failed" not in entry:
            before = found.get(entry["model"])
            if before is None or entry["training_loss"] < before["training_loss"]:
                found[entry["model"]] = entry
    return found


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog=NAME, description=__doc__)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--models", nargs="+", default=[OURS], choices=list(MODELS))
    parser.add_argument("--recipes", nargs="+", default=["muon:0.02", "adamw:0.003"], metavar="NAME:LR")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args(argv)
    recipes = [(name, float(lr)) for name, lr in (recipe.split(":") for recipe in given.recipes)]
    grid = itertools.product(given.tasks, given.models, recipes, range(given.seeds))
    probes = [Probe(task, model, *recipe, seed) for task, model, recipe, seed in grid]
    results = run_pool(NAME, "benchmarks.recall", {p.key: asdict(p) for p in probes}, given.workers)
    for task in given.tasks:
        for model, entry in best(results, task).items():
            shares = "  ".join(f"{key} {share:.3f}" for key, share in entry["accuracy"].items())
            print(f"{task:8} {model:12} {entry['recipe']} {entry['lr']}: {shares}")
    redraw(NAME)


if __name__ == "__main__":
    if len(sys.argv) == 2 and sys.argv[1].startswith("{"):
        report(lambda given: probe(Probe(**given)))
    else:
        main()
