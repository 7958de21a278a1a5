"""Sequences of marked events: which comes next, and when.

    python -m benchmarks.marks [--folds 1 2 3 4 5] [--epochs 12] [--workers 2]

Badges of 6,630 users of Stack Overflow, 22 kinds, in five folds: each fold is judged by models trained on the
other four, of which a tenth of the users is set apart to choose the epoch by. Log-likelihood per event (of
mark and gap together, a density per day), share of marks that are the likeliest one foretold, and the median
error of the gap's median in days. A user's first event is given.

Beside ours a GRU over marks and gaps (as RMTPP, Du et al. 2016) that ends in the same distributions as ours.
Results already in results/marks.json are kept.
"""

import argparse
import math
import random
import statistics
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from benchmarks.pool import report, run_pool
from benchmarks.texts import FOLDER
from liquidlm import LiquidConfig, LiquidTextGenerationModel
from liquidlm.optim import Optimisers, clip_gradients, liquid_optimisers
from liquidlm.time_head import GapDistribution, TimeHead

NAME = "marks"
MARKS, COMPONENTS, DAY = 22, 8, 86400.0
TOKENS = 4096
"""Events of a batch, padding included."""
RATES = {"ours": (0.005, 0.01, 0.02), "GRU": (0.001, 0.003, 0.01)}
Users = list[tuple[Int[Tensor, " n"], Float64[Tensor, " n"]]]
"""Marks 0…21 and times in days of each user's events."""


class Batch(NamedTuple):
    marks: Int[Tensor, "b t"]
    times: Float64[Tensor, "b t"]
    real: Bool[Tensor, "b t"]


class Foretold(NamedTuple):
    """Of every event but the first: log-probabilities of the mark, and the gap given each mark that came or
    was foretold."""

    marks: Float[Tensor, "b t m"]
    gap: GapDistribution
    gap_of_likeliest: GapDistribution


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


class Ours(nn.Module):
    def __init__(self, scale: float):
        super().__init__()
        sizes: dict[str, Any] = {"hidden_size": 64, "embedding_dim": 32, "latent_dim": 16, "ngram_rows": 1024}
        config = LiquidConfig(
            vocab_size=MARKS,
            num_hidden_layers=2,
            time_components=COMPONENTS,
            time_scale=scale,
            dropout_rate=0.1,
            flow_loss_weight=0.0,
            **sizes,
        )
        self.model = LiquidTextGenerationModel(config)

    def optimisers(self, lr: float) -> Optimisers:
        return liquid_optimisers(self.model, lr)

    def forward(self, batch: Batch) -> Foretold:
        # In training mode the model gives no logits beside labels: here none are given.
        output: Any = self.model(batch.marks, batch.real.long(), timestamps=batch.times)
        logits, features = output.logits[:, :-1], output.features[:, :-1]
        gaps = (self.model.next_gap(features, of) for of in (batch.marks[:, 1:], logits.argmax(-1)))
        return Foretold(logits.log_softmax(-1), *gaps)


class GRU(nn.Module):
    def __init__(self, scale: float, width: int = 96):
        super().__init__()
        self.scale = scale
        self.embedding = nn.Embedding(MARKS, 32)
        self.gru = nn.GRU(33, width, batch_first=True)
        self.dropout = nn.Dropout(0.1)
        self.output = nn.Linear(width, MARKS)
        self.time_head = TimeHead(width, MARKS, COMPONENTS)

    def optimisers(self, lr: float) -> Optimisers:
        return Optimisers([(torch.optim.AdamW(self.parameters(), lr), lr)])

    def forward(self, batch: Batch) -> Foretold:
        gaps = F.pad(batch.times.diff(dim=1).clamp(min=0), (1, 0)).float() / self.scale
        x = torch.cat([self.embedding(batch.marks), gaps.log1p()[..., None]], -1)
        h = self.dropout(self.gru(x)[0][:, :-1])
        logits = self.output(h)
        heads = (self.time_head(h, of) for of in (batch.marks[:, 1:], logits.argmax(-1)))
        return Foretold(logits.log_softmax(-1), *heads)


def log_likelihood(model: nn.Module, batch: Batch, scale: float) -> tuple[Tensor, Foretold, Tensor, Tensor]:
    """ln p of every event but the first, what was foretold, the gaps in days, and which are real."""
    found, real = model(batch), batch.real[:, 1:]
    days = batch.times.diff(dim=1).masked_fill(~real, 0.0).float()
    mark = found.marks.gather(-1, batch.marks[:, 1:, None])[..., 0]
    gap = found.gap.log_prob(days / scale) - (days > 0) * math.log(scale)
    return (mark + gap) * real, found, days, real


@torch.no_grad()
def judge(model: nn.Module, sequences: Users, scale: float) -> dict[str, float]:
    model.eval()
    total, right, count, errors = 0.0, 0, 0, []
    for batch in batches(sequences):
        each, found, days, real = log_likelihood(model, batch, scale)
        total, count = total + each.double().sum().item(), count + int(real.sum())
        right += int(((found.marks.argmax(-1) == batch.marks[:, 1:]) & real).sum())
        errors.append((found.gap_of_likeliest.quantile(0.5) * scale - days).abs()[real])
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
    model: Any = {"ours": Ours, "GRU": GRU}[job["model"]](scale).train()
    optimisers, order = model.optimisers(job["lr"]), random.Random(job["seed"])
    parts = list(batches(train))
    steps, step, best = job["epochs"] * len(parts), 0, {"log_likelihood": -math.inf}
    found: dict[str, Any] = {}
    for epoch in range(job["epochs"]):
        for batch in order.sample(parts, len(parts)):
            each, _, _, real = log_likelihood(model, batch, scale)
            (-each.sum() / real.sum()).backward()
            clip_gradients(model.parameters())
            optimisers.step(step, step / steps)
            step += 1
        score = judge(model, apart, scale)
        print(f"{job}: epoch {epoch + 1} {score}", file=sys.stderr, flush=True)
        if score["log_likelihood"] > best["log_likelihood"]:
            best = score
            found = {"test": judge(model, users(job["fold"]), scale), "epoch": epoch + 1}
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
