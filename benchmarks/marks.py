"""Sequences of marked events: which event comes next, and when.

    python -m benchmarks.marks [--models ours GRU …] [--folds 1 2 3 4 5] [--epochs 20] [--workers 2]

Badges of 6,630 users of Stack Overflow, 22 kinds, in five folds: each fold is judged by models trained on the
other four, of which a tenth of the users is set apart to choose the epoch by, and on the first fold, in short
runs, the learning rate. Log-likelihood per event (of mark and gap together, a density per day), share of
marks that are the likeliest one predicted, and the median error of the gap's median in days. A user's first
event is given.

The models, of about as many parameters, are in mark_models.py; what is in results/marks.json is kept.
"""

import argparse
import copy
import math
import random
import statistics
import sys
import time
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float64, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from benchmarks.mark_models import GRU, Batch, MarkModel, NeuralHawkes, Ours, TransformerHawkes
from benchmarks.pool import report, run_pool
from benchmarks.texts import FOLDER
from liquidlm.training.optim import clip_gradients

NAME = "marks"
DAY = 86400.0
TOKENS = 4096
"""Events of a batch, padding included."""
MODELS: dict[str, type[MarkModel]] = {
    "ours": Ours,
    "GRU": GRU,
    "neural Hawkes": NeuralHawkes,
    "transformer Hawkes": TransformerHawkes,
}
RATES = {"ours": (0.005, 0.01, 0.02, 0.04), "GRU": (0.003, 0.01, 0.02, 0.04)}
RATES |= {"neural Hawkes": (0.002, 0.005, 0.01), "transformer Hawkes": (0.003, 0.01, 0.03)}
Users = list[tuple[Int[Tensor, " n"], Float64[Tensor, " n"]]]
"""Marks 0…21 and times in days of each user's events."""


def users(fold: int) -> Users:
    folder, found = FOLDER / "stackoverflow-events", []
    files = [
        (folder / f"{what}-{fold}-test.txt").read_text(encoding="utf-8").splitlines()
        for what in ("event", "time")
    ]
    for marks, times in zip(*files, strict=True):
        own = torch.tensor([int(mark) - 1 for mark in marks.split()])
        days = torch.tensor([float(time) for time in times.split()], dtype=torch.float64) / DAY
        if len(own) > 1:
            found.append((own, days - days[0]))
    return found


def batches(sequences: Users) -> Iterator[Batch]:
    """All users, those of like length together."""
    part: Users = []
    for one in [*sorted(sequences, key=lambda own: len(own[0])), None]:
        if one is None or (part and len(one[0]) * (len(part) + 1) > TOKENS):
            marks, times = (pad_sequence([own[i] for own in part], batch_first=True) for i in (0, 1))
            lengths = torch.tensor([len(own[0]) for own in part])
            yield Batch(marks, times, torch.arange(marks.shape[1]) < lengths[:, None])
            part = []
        if one is not None:
            part.append(one)


@torch.no_grad()
def log_likelihood(model: MarkModel, sequences: Users) -> float:
    """ln p per event but each user's first."""
    model.eval()
    parts = list(batches(sequences))
    total = sum(model.log_likelihood(batch).item() for batch in parts)
    model.train()
    return total / sum(int(batch.real[:, 1:].sum()) for batch in parts)


@torch.no_grad()
def judge(model: MarkModel, sequences: Users) -> dict[str, float]:
    """Per event but each user's first: ln p, share of marks predicted, median error of the gap."""
    model.eval()
    right, count, errors = 0, 0, []
    for batch in batches(sequences):
        real = batch.real[:, 1:]
        likeliest, days = model.predict(batch)
        count += int(real.sum())
        right += int(((likeliest == batch.marks[:, 1:]) & real).sum())
        errors.append((days - batch.days).abs()[real])
    model.train()
    return {
        "log_likelihood": log_likelihood(model, sequences),
        "accuracy": right / count,
        "median_error_days": torch.cat(errors).median().item(),
    }


def learn(job: dict[str, Any]) -> dict[str, Any]:
    """One model on four folds: its figures on the fifth at the epoch that was best on users set apart."""
    torch.manual_seed(job["seed"])
    rest = [own for fold in range(1, 6) if fold != job["fold"] for own in users(fold)]
    random.Random(0).shuffle(rest)
    apart, train = rest[: len(rest) // 10], rest[len(rest) // 10 :]
    gaps = torch.cat([times.diff() for _, times in train])
    scale = gaps[gaps > 0].median().item()
    model = MODELS[job["model"]](scale).train()
    optimisers, order = model.optimisers(job["lr"]), random.Random(job["seed"])
    parts = list(batches(train))
    steps, step, best, best_epoch, weights = job["epochs"] * len(parts), 0, -math.inf, 0, {}
    begin = time.perf_counter()
    for epoch in range(job["epochs"]):
        for batch in order.sample(parts, len(parts)):
            (-model.log_likelihood(batch) / batch.real[:, 1:].sum()).backward()
            clip_gradients(model.parameters())
            optimisers.step(step, step / steps)
            step += 1
        score = log_likelihood(model, apart)
        print(f"{job}: epoch {epoch + 1} {score:.4f}", file=sys.stderr, flush=True)
        if score > best:
            best, best_epoch, weights = score, epoch + 1, copy.deepcopy(model.state_dict())
    seconds = time.perf_counter() - begin
    found = {"apart": best, "epoch": best_epoch, "seconds": seconds}
    if job["judge"]:
        model.load_state_dict(weights)
        found["test"] = judge(model, users(job["fold"]))
    return {**found, "parameters": sum(p.numel() for p in model.parameters())}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog=NAME, description=__doc__)
    parser.add_argument("--folds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--models", nargs="+", default=list(RATES), choices=list(RATES))
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--sweep-epochs", type=int, default=8)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args(argv)

    def run(jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        keyed = {str(sorted(one.items())): one for one in jobs}
        found = run_pool(NAME, "benchmarks.marks", keyed, given.workers)
        return [found[key] for key in keyed]

    for model in given.models:
        job = {"model": model, "seed": 0}
        sweep = {**job, "fold": 1, "epochs": given.sweep_epochs, "judge": False}
        tried = run([{**sweep, "lr": lr} for lr in RATES[model]])
        scores = [one.get("apart", -math.inf) for one in tried]
        lr = RATES[model][scores.index(max(scores))]
        full = {**job, "epochs": given.epochs, "judge": True, "lr": lr}
        folds = [one["test"] for one in run([{**full, "fold": fold} for fold in given.folds])]
        for name in folds[0]:
            values = [one[name] for one in folds]
            spread = statistics.stdev(values) if len(values) > 1 else math.nan
            print(f"{model:18} {lr} {name:18} {statistics.mean(values):.4f} ± {spread:.4f}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) == 2 and sys.argv[1].startswith("{"):
        report(learn)
    else:
        main()
