"""One training run of one model on one text, measured in steps, and a pool that runs many of them.

A run is told its steps, not its minutes: whoever compares at equal wall-clock time measures the seconds of a
step, alone on the machine and in turn with the others, and gives each model the steps that fit. So runs may
share the machine, one thread each, without changing a figure.
"""

import json
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from benchmarks.machine import machine, read_results, write_results
from benchmarks.peers import LanguageModel, parameters, recipe
from benchmarks.texts import HeldOut, load
from benchmarks.variants import build_variant
from liquidlm.allocator import keep_freed_memory
from liquidlm.data import StreamBatches
from liquidlm.optim import clip_gradients
from liquidlm.precision import autocast

POINTS = 8
"""Times that the held-out text is tried in a run."""


@dataclass(frozen=True)
class Trial:
    """What defines a run.

    Attributes:
        text: of texts.TEXTS.
        model: of peers.MODELS or variants.VARIANTS.
        recipe, lr: see peers.recipe.
        steps, rows, length: of training, rows × length tokens per step.
        judge: "valid" to choose by, "test" to report.
    """

    text: str
    model: str
    recipe: str
    lr: float
    steps: int
    rows: int
    length: int
    bf16: bool = True
    seed: int = 0
    judge: str = "valid"

    @property
    def key(self) -> str:
        return " ".join(f"{name}={value}" for name, value in asdict(self).items())


def learn(trial: Trial) -> dict[str, Any]:
    """Train, and try the held-out text now and then.

    {"curve": [[step, seconds of training, bits per byte], …], "parameters", "seconds", "training_loss"}
    """
    torch.manual_seed(trial.seed)
    text = load(trial.text)
    model = build_variant(trial.model, text.tokenizer.vocab_size, trial.length).train()
    optimisers = recipe(model, trial.recipe, trial.lr)
    batches = StreamBatches(text.train, trial.rows, trial.length, trial.seed)
    state, curve, seconds, average = None, [], 0.0, 0.0
    for step in range(trial.steps):
        begin = time.perf_counter()
        batch = batches.next_batch()
        if bool(batch.starts[:, 0].all()):  # the rows have jumped
            state = None
        with autocast(batch.input_ids.device, trial.bf16):
            loss, state = model(batch.input_ids, batch.targets, state)
        loss.backward()
        clip_gradients(model.parameters())
        optimisers.step(step, step / trial.steps)
        seconds += time.perf_counter() - begin
        average = loss.item() if step == 0 else 0.95 * average + 0.05 * loss.item()
        if (step + 1) * POINTS // trial.steps > step * POINTS // trial.steps:
            last = step + 1 == trial.steps
            rows = getattr(text, trial.judge) if last else text.glance
            curve.append([step + 1, seconds, bits_per_byte(model, rows, trial.length, trial.bf16)])
            print(f"{trial.key}: {curve[-1]}", file=sys.stderr, flush=True)
    return {
        "curve": curve,
        "bits_per_byte": curve[-1][-1],
        "parameters": parameters(model),
        "seconds": seconds,
        "training_loss": average,
    }


@torch.no_grad()
def bits_per_byte(model: LanguageModel, rows: HeldOut, length: int, bf16: bool) -> float:
    """Bits per byte of the held-out rows.

    A model that carries its state reads each row from end to end. Any other sees windows of `length`, the
    length it was trained on, moved on by half a window, and is judged on the second half of each: it always
    has at least half a window of context.
    """
    model.eval()
    total, state = 0.0, None
    for ids, targets in pieces(rows, length, model.carries):
        counted = int((targets >= 0).sum())
        if not counted and not model.carries:
            continue
        with autocast(ids.device, bf16):
            loss, state = model(ids, targets, state)
        total += loss.item() * counted if counted else 0.0
    model.train()
    return total / math.log(2) / rows.text_bytes


def pieces(
    rows: HeldOut, length: int, carries: bool
) -> Iterable[tuple[Int[Tensor, "b t"], Int[Tensor, "b t"]]]:
    """What a model is called with to read the rows once, and what it is judged on."""
    if carries:
        yield from zip(rows.ids.split(length, 1), rows.targets.split(length, 1), strict=True)
        return
    half = length // 2
    for first in range(0, rows.ids.shape[1] - half, half):
        targets = rows.targets[:, first : first + length].clone()
        targets[:, :half] = -100
        yield rows.ids[:, first : first + length], targets


def run_trials(
    name: str, trials: Iterable[Trial], workers: int = 1, then: Callable[[], object] | None = None
) -> dict[str, dict[str, Any]]:
    """The results of `trials` by their key; those already in RESULTS/name.json are not run again.

    Each runs in a process of its own, with an equal share of the cores; every result is kept as it comes.
    """
    lock = threading.Lock()

    def run(trial: Trial) -> None:
        if trial.key in read_results(name).get("trials", {}):
            return
        result = in_child(trial, max(1, (os.cpu_count() or 1) // workers))
        with lock:
            figures = read_results(name)
            figures.setdefault("trials", {})[trial.key] = {**asdict(trial), **result}
            write_results(name, figures)
            print(f"{trial.key}: {result.get('bits_per_byte', result)}", flush=True)
            if then is not None:
                then()

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(run, trials))
    return read_results(name).get("trials", {})


def in_child(trial: Trial, threads: int) -> dict[str, Any]:
    """What `learn` returns, from another process; {"failed": why} if it died."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.learning", json.dumps(asdict(trial))],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        return {"failed": f"exit code {done.returncode}"}
    return {**json.loads(done.stdout.splitlines()[-1]), "threads": threads, "commit": machine()["commit"]}


if __name__ == "__main__":
    keep_freed_memory()
    print(json.dumps(learn(Trial(**json.loads(sys.argv[1])))))
