"""Sessions of a file system's log: how well unusual sessions are found by what is normal.

    python -m benchmarks.hdfs [--seeds 0 1 2]

HDFS (Xu et al. 2009): 4,854 normal and 16,837 abnormal sessions, each the ids of its events in order. The
normal ones are shuffled with seed 0; the first 2,000 train, the others are tested beside all abnormal ones.
In precision and F1 normal sessions are weighed so that 2.95 % of all are abnormal, as in the whole data set.

Nothing abnormal is used to choose. A tenth of the training sessions is set apart. The epoch and the rate are
chosen on it; the form of a score on it beside the same sessions with one event left out, doubled, exchanged
with the next, or replaced. The baselines are in hdfs_baselines.py.
"""

import argparse
import random
import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from benchmarks.hdfs_baselines import BASELINES
from benchmarks.hdfs_models import LSTM, Ours, learn
from benchmarks.machine import write_results
from benchmarks.surprise import roc_area
from benchmarks.texts import FOLDER

NAME = "hdfs"
TRAIN, APART = 2_000, 200
ABNORMAL = 0.0295
"""The share of abnormal sessions in the whole data set."""
Session = tuple[int, ...]
Score = Callable[[Sequence[Session]], np.ndarray]


class Sessions(NamedTuple):
    """Sessions to learn from, to choose by, and to judge by."""

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
    return Sessions(normal[: TRAIN - APART], normal[TRAIN - APART : TRAIN], normal[TRAIN:], abnormal)


def changed(normal: Sequence[Session], seed: int = 0) -> list[Session]:
    """The sessions, each with one event left out, doubled, exchanged with the next, or replaced."""
    draw = random.Random(seed)
    ids = sorted({event for one in normal for event in one})
    found = []
    for one in normal:
        at = draw.randrange(len(one) - 1)
        left, event, right = one[:at], one[at], one[at + 1 :]
        ways = [left + right, (*left, event, event, *right), (*left, right[0], event, *right[1:])]
        found.append(draw.choice([*ways, (*left, draw.choice(ids), *right)]))
    return found


def best_f1(scores: np.ndarray, positive: np.ndarray) -> float:
    """The largest F1 of all thresholds, with the normal ones weighed."""
    count = positive.sum()
    weight = np.where(positive, 1.0, count * (1 - ABNORMAL) / ABNORMAL / (~positive).sum())
    order = np.argsort(-scores, kind="stable")
    found, all_found = np.cumsum((weight * positive)[order]), np.cumsum(weight[order])
    ends = np.append(np.diff(scores[order]) != 0, True)  # a threshold cannot divide equal scores
    return float((2 * found / (all_found + count))[ends].max())


def judge(score: Score, normal: Sequence[Session], abnormal: Sequence[Session]) -> dict[str, float]:
    """Area under the ROC curve and the best F1."""
    scores = np.concatenate([score(normal), score(abnormal)])
    positive = np.arange(len(scores)) >= len(normal)
    return {"area": roc_area(scores, positive), "f1": best_f1(scores, positive)}


def chosen(forms: dict[str, Score], given: Sessions) -> tuple[str, Score]:
    """The form of a score that tells sessions set apart best from changed ones."""
    wrong = changed(given.apart)
    areas = {name: judge(score, given.apart, wrong)["area"] for name, score in forms.items()}
    name = max(areas, key=lambda form: areas[form])
    return name, forms[name]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog=NAME, description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    given = parser.parse_args(argv)
    data, figures = sessions(), {}

    def add(name: str, found: list[dict[str, float | str]]) -> None:
        middle = {
            key: statistics.median(float(one[key]) for one in found) for key in ("area", "f1", "seconds")
        }
        figures[name] = {**middle, "runs": found}
        print(f"{name:24} area {middle['area']:.4f}  F1 {middle['f1']:.3f}  {found[0]['form']}", flush=True)

    for name, baseline in BASELINES.items():
        begin = time.perf_counter()
        form, score = chosen(baseline([*data.train, *data.apart]), data)
        add(name, [run(form, score, data, begin)])
    for name, kind in (("LSTM (DeepLog)", LSTM), ("liquidlm", Ours)):
        found = []
        for seed in given.seeds:
            begin = time.perf_counter()
            learned = learn(kind, data.train, data.apart, seed)
            form, score = chosen(learned.forms, data)
            found.append({**run(form, score, data, begin), "nats_apart": learned.nats_apart})
        add(name, found)
    write_results(NAME, {"models": figures})


def run(form: str, score: Score, data: Sessions, begin: float) -> dict[str, float | str]:
    """The figures of one score on the test, and the seconds that it took with its learning."""
    found = judge(score, data.normal, data.abnormal)
    return {**found, "form": form, "seconds": time.perf_counter() - begin}


if __name__ == "__main__":
    main()
