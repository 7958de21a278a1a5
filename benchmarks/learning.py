"""One training run of one model on one text, measured in steps.

A run has a number of steps, not of minutes. A comparison at equal wall-clock time measures the seconds of a
step, alone on the machine and in turn with the others, and gives each model the steps that fit. So runs may
share the machine, one thread each, without changing a figure.
"""

import math
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from safetensors.torch import save_model
from torch import Tensor

from benchmarks.language_models import Counted, LanguageModel, Ours
from benchmarks.peers import parameters, recipe
from benchmarks.pool import report, run_pool
from benchmarks.texts import HeldOut, load
from benchmarks.variants import build_variant
from liquidlm.runtime.precision import autocast, best_device
from liquidlm.text.batches import StreamBatches
from liquidlm.text.weighting import WeightedCorpus, cut_into_spans
from liquidlm.training.optim import clip_gradients

CPU = torch.device("cpu")
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
        span: the training text is read in spans of so many tokens in mixed order; 0: from end to end.
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
    span: int = 16384

    @property
    def key(self) -> str:
        return " ".join(f"{name}={value}" for name, value in asdict(self).items())


def learn(trial: Trial) -> dict[str, Any]:
    """Train, and try the held-out text now and then.

    {"curve": [[step, seconds of training, bits per byte], …], "parameters", "seconds", "training_loss"}
    """
    torch.manual_seed(trial.seed)
    text = load(trial.text)
    device = best_device()
    model = build_variant(trial.model, text.tokenizer.vocab_size, trial.length).train().to(device)
    begin = time.perf_counter()
    if isinstance(model, Ours | Counted):
        model.count(text.train)
    counting = time.perf_counter() - begin
    optimisers = recipe(model, trial.recipe, trial.lr)
    train = text.train
    if trial.span:
        spans, document = cut_into_spans(train, trial.span)
        train = WeightedCorpus(spans, [1.0] * len(document), trial.seed)
    batches = StreamBatches(train, trial.rows, trial.length, trial.seed)
    state, curve, seconds, average = None, [], counting, 0.0
    for step in range(trial.steps):
        begin = time.perf_counter()
        batch = batches.next_batch()
        if bool(batch.starts[:, 0].all()):  # the rows have jumped
            state = None
        with autocast(device, trial.bf16):
            loss, state = model(batch.input_ids.to(device), batch.targets.to(device), state)
        loss.backward()
        clip_gradients(model.parameters())
        optimisers.step(step, step / trial.steps)
        seconds += time.perf_counter() - begin
        average = loss.item() if step == 0 else 0.95 * average + 0.05 * loss.item()
        if (step + 1) * POINTS // trial.steps > step * POINTS // trial.steps:
            last = step + 1 == trial.steps
            rows = getattr(text, trial.judge) if last else text.glance
            curve.append([step + 1, seconds, bits_per_byte(model, rows, trial.length, trial.bf16, device)])
            print(f"{trial.key}: {curve[-1]}", file=sys.stderr, flush=True)
    if trial.judge == "test":
        weights_file(trial).parent.mkdir(parents=True, exist_ok=True)
        save_model(model, str(weights_file(trial)))
    return {
        "curve": curve,
        "bits_per_byte": curve[-1][-1],
        "parameters": parameters(model),
        "seconds": seconds,
        "training_loss": average,
    }


def weights_file(trial: Trial) -> Path:
    """Where the weights of a run that is reported are kept; the repository does not carry them."""
    name = f"{trial.text}-{trial.model.replace('/', '-')}-{trial.steps}-{trial.seed}.safetensors"
    return Path(__file__).parents[1] / "runs" / "benchmarks" / name


@torch.no_grad()
def bits_per_byte(
    model: LanguageModel, rows: HeldOut, length: int, bf16: bool, device: torch.device = CPU
) -> float:
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
        with autocast(device, bf16):
            loss, state = model(ids.to(device), targets.to(device), state)
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


def run_trials(name: str, trials: Iterable[Trial], workers: int = 1) -> dict[str, dict[str, Any]]:
    """The results of `trials` by their key, from RESULTS/name.json where they are already."""
    return run_pool(name, "benchmarks.learning", {trial.key: asdict(trial) for trial in trials}, workers)


if __name__ == "__main__":
    report(lambda given: learn(Trial(**given)))
