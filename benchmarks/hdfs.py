"""Sessions of a file system's log: how well unusual sessions are found by what is normal.

    python -m benchmarks.hdfs [--seeds 0 1 2]

HDFS (Xu et al. 2009): 4,855 normal and 16,838 abnormal sessions, each the ids of its events in order. The
normal ones are shuffled with seed 0; the first 2,000 train, the others are tested beside the abnormal ones.
In precision and F1 normal sessions are weighed so that 2.95 % of all are abnormal, as in the whole data set.

1,000 abnormal sessions are set apart: nothing learns from them, and the test is without them. The form of
each score, and the rate of the LSTM, are those with the best F1 on them beside the training sessions, each of
which is judged by a model that has learned from the other three quarters. Then all 2,000 train. The baselines
are in hdfs_baselines.py.
"""

import argparse
import random
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from benchmarks.hdfs_baselines import BASELINES
from benchmarks.hdfs_models import LSTM, EventModel, MovedLSTM, Ours, learn
from benchmarks.machine import add_results
from benchmarks.plots import redraw
from benchmarks.surprise import roc_area
from benchmarks.texts import FOLDER

NAME = "hdfs"
TRAIN, APART, FOLDS = 2_000, 1_000, 4
ABNORMAL = 0.0295
"""The share of abnormal sessions in the whole data set."""
Session = tuple[int, ...]
Score = Callable[[Sequence[Session]], np.ndarray]
Learner = Callable[[Sequence[Session]], dict[str, Score]]
"""Normal sessions ▶ scores by their form."""


class Sessions(NamedTuple):
    """Normal sessions to learn from, abnormal ones to choose by, and both to judge by."""

    train: list[Session]
    apart: list[Session]
    normal: list[Session]
    abnormal: list[Session]


def sessions() -> Sessions:
    """The sessions, divided as described above."""
    folder = FOLDER / "hdfs-sessions"
    normal, abnormal = (
        [
            tuple(map(int, line.split()))
            for line in (folder / f"{name}.txt").read_text(encoding="utf-8").splitlines()
            if line.split()
        ]
        for name in ("normal", "abnormal")
    )
    random.Random(0).shuffle(normal)
    random.Random(1).shuffle(abnormal)
    return Sessions(normal[:TRAIN], abnormal[:APART], normal[TRAIN:], abnormal[APART:])


def best_f1(scores: np.ndarray, positive: np.ndarray) -> float:
    """The largest F1 of all thresholds, with the normal ones weighed."""
    count = positive.sum()
    weight = np.where(positive, 1.0, count * (1 - ABNORMAL) / ABNORMAL / (~positive).sum())
    order = np.argsort(-scores, kind="stable")
    found, all_found = np.cumsum((weight * positive)[order]), np.cumsum(weight[order])
    ends = np.append(np.diff(scores[order]) != 0, True)  # a threshold cannot divide equal scores
    return float((2 * found / (all_found + count))[ends].max())


def judge(normal: np.ndarray, abnormal: np.ndarray) -> dict[str, float]:
    """Area under the ROC curve and the best F1 of scores."""
    scores = np.concatenate([normal, abnormal])
    positive = np.arange(len(scores)) >= len(normal)
    return {"area": roc_area(scores, positive), "f1": best_f1(scores, positive)}


def crossed(learner: Learner, given: Sessions) -> dict[str, dict[str, float]]:
    """How well each form of the score does on sessions that it has not learned from."""
    order = random.Random(0).sample(given.train, len(given.train))
    normal, abnormal = defaultdict(list), defaultdict(list)
    for fold in range(FOLDS):
        forms = learner([one for i, one in enumerate(order) if i % FOLDS != fold])
        for name, score in forms.items():
            normal[name].append(score(order[fold::FOLDS]))
            abnormal[name].append(score(given.apart))
    return {name: judge(*map(np.concatenate, (normal[name], abnormal[name]))) for name in normal}


def measured(score: Score, data: Sessions) -> dict[str, float]:
    """The figures of a score on the test."""
    return judge(score(data.normal), score(data.abnormal))


def baseline(learner: Learner, data: Sessions) -> dict[str, Any]:
    choosing = crossed(learner, data)
    form = max(choosing, key=lambda name: choosing[name]["f1"])
    return {"form": form, "choosing": choosing[form], **measured(learner(data.train)[form], data)}


def neural(kind: type[EventModel], data: Sessions, seeds: Sequence[int]) -> dict[str, Any]:
    """The medians of the seeds. Rate and form are chosen with the first seed."""
    choosing = {}
    for rate in kind.rates:
        found = crossed(lambda train, lr=rate: learn(kind, train, lr, seeds[0]), data)
        choosing |= {(rate, form): figures for form, figures in found.items()}
    rate, form = max(choosing, key=lambda key: choosing[key]["f1"])
    runs = []
    for seed in seeds:
        forms = learn(kind, data.train, rate, seed)
        runs.append({name: measured(score, data) for name, score in forms.items()})
    middle = {key: statistics.median(run[form][key] for run in runs) for key in ("area", "f1")}
    return {"form": form, "rate": rate, "choosing": choosing[rate, form], **middle, "runs": runs}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog=NAME, description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    given = parser.parse_args(argv)
    data = sessions()
    jobs: dict[str, Callable[[], dict[str, Any]]] = {
        name: partial(baseline, learner, data) for name, learner in BASELINES.items()
    }
    for name, kind in NEURAL.items():
        jobs[name] = partial(neural, kind, data, given.seeds)
    for name, job in jobs.items():
        begin = time.perf_counter()
        found = {**job(), "seconds": time.perf_counter() - begin}
        add_results(NAME, "models", "test", {name: found})
        print(f"{name:24} area {found['area']:.4f}  F1 {found['f1']:.3f}  {found['form']}", flush=True)
    redraw(NAME)


NEURAL: dict[str, type[EventModel]] = {
    "liquidlm": Ours,
    "LSTM (DeepLog)": LSTM,
    "LSTM, events moved": MovedLSTM,
}
"""Name ▶ kind of a neural model."""

if __name__ == "__main__":
    main()
