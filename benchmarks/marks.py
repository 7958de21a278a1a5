"""Sequences of marked events: which comes next, and when.

    python -m benchmarks.marks [--folds 1 2 3 4 5] [--epochs 12] [--workers 2]

Badges of 6,630 users of Stack Overflow, 22 kinds, in five folds: each fold is judged by models trained on the
other four, of which a tenth of the users is set apart to choose the epoch by. Log-likelihood per event (of
mark and gap together, a density per day), share of marks that are the likeliest one foretold, and the median
error of the gap's median in days. A user's first event is given.

The models, of about as many parameters, are in mark_models.py; what is in results/marks.json is kept.
"""

import argparse
import math
import random
import statistics
import sys
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float64, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from benchmarks.mark_models import GRU, Batch, MarkModel, NeuralHawkes, Ours, TransformerHawkes
from benchmarks.pool import report, run_pool
from benchmarks.texts import FOLDER
from liquidlm.optim import clip_gradients

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
RATES = {"ours": (0.005, 0.01, 0.02), "GRU": (0.003, 0.01, 0.02)}
RATES |= {"neural Hawkes": (0.002, 0.005, 0.01), "transformer Hawkes": (0.0005, 0.001, 0.003)}
Users = list[tuple[Int[Tensor, " n"], Float64[Tensor, " n"]]]
"""Marks 0…21 and times in days of each user's events."""


def users(fold: int) -> Users:
    folder, found = FOLDER / "stackoverflow-events", []
    files = [(folder / f"{what}-{fold}-test.txt").read_text().splitlines() for what in ("event", "time")]
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
def judge(model: MarkModel, sequences: Users) -> dict[str, float]:
    """Per event but each user's first: ln p, share of marks foretold, median error of the gap."""
    model.eval()
    total, right, count, errors = 0.0, 0, 0, []
    for batch in batches(sequences):
        real = batch.real[:, 1:]
        likeliest, days = model.foretell(batch)
        total, count = total + model.log_likelihood(batch).item(), count + int(real.sum())
        right += int(((likeliest == batch.marks[:, 1:]) & real).sum())
        errors.append((days - batch.days).abs()[real])
    model.train()
    return {
        "log_likelihood": total / count,
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
    steps, step, best = job["epochs"] * len(parts), 0, {"log_likelihood": -math.inf}
    found: dict[str, Any] = {}
    for epoch in range(job["epochs"]):
        for batch in order.sample(parts, len(parts)):
            (-model.log_likelihood(batch) / batch.real[:, 1:].sum()).backward()
            clip_gradients(model.parameters())
            optimisers.step(step, step / steps)
            step += 1
        score = judge(model, apart)
        print(f"{job}: epoch {epoch + 1} {score}", file=sys.stderr, flush=True)
        if score["log_likelihood"] > best["log_likelihood"]:
            best = score
            found = {"test": judge(model, users(job["fold"])), "epoch": epoch + 1}
    return {**found, "apart": best, "parameters": sum(p.numel() for p in model.parameters())}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog=NAME, description=__doc__)
    parser.add_argument("--folds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--models", nargs="+", default=list(RATES), choices=list(RATES))
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args(argv)

    def job(model: str, lr: float, fold: int) -> dict[str, Any]:
        return {"model": model, "lr": lr, "fold": fold, "epochs": given.epochs, "seed": 0}

    def run(jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        keyed = {str(sorted(one.items())): one for one in jobs}
        found = run_pool(NAME, "benchmarks.marks", keyed, given.workers)
        return [found[key] for key in keyed]

    # The rate is chosen on the users set apart of the first fold, and kept for all.
    for model in given.models:
        tried = run([job(model, lr, given.folds[0]) for lr in RATES[model]])
        scores = [one.get("apart", {}).get("log_likelihood", -math.inf) for one in tried]
        lr = RATES[model][scores.index(max(scores))]
        folds = [one["test"] for one in run([job(model, lr, fold) for fold in given.folds])]
        for name in folds[0]:
            values = [one[name] for one in folds]
            spread = statistics.stdev(values) if len(values) > 1 else math.nan
            print(f"{model:6} {lr} {name:18} {statistics.mean(values):.4f} ± {spread:.4f}")


if __name__ == "__main__":
    if len(sys.argv) == 2 and sys.argv[1].startswith("{"):
        report(learn)
    else:
        main()
