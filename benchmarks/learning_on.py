"""Models of `benchmarks.quality` that learn on over the held-out text, as compressors do.

    python -m benchmarks.learning_on --text wikitext-2 [--models "liquidlm" "liquidlm with counts"]

The weights are those that a run of `benchmarks.quality` has left, of seed 0. The rows are read one after the
other; each block of 512 tokens is judged, then learned (dynamic evaluation, Krause et al. 2018,
arXiv:1709.07432), as `liquidlm eval --adapt` does. The rate is the best on the validation rows. Writes the
section "learning_on" of results/quality.json.
"""

import argparse
import copy
import math
import time
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_model

from benchmarks.language_models import Ours
from benchmarks.learning import Trial, weights_file
from benchmarks.machine import add_results, machine, read_results
from benchmarks.peers import OURS, WITH_COUNTS
from benchmarks.texts import TEXTS, HeldOut, load
from benchmarks.variants import build_variant
from liquidlm import LiquidTextGenerationModel
from liquidlm.inference.token_costs import read_costs
from liquidlm.model.step import LiquidStep
from liquidlm.text.batches import IGNORED
from liquidlm.training.online import BLOCK, OnlineLearner

RATES = (0.0003, 0.001, 0.003)
"""Peak learning rates that are tried."""


def bits_per_byte(model: LiquidTextGenerationModel, rows: HeldOut, rate: float) -> float:
    """Bits per byte of the rows, each block judged before it is learned. The model is changed in place."""
    learner, step, nats = OnlineLearner(model, rate), LiquidStep(model), 0.0
    for ids, targets in zip(rows.ids.numpy(), rows.targets.numpy(), strict=True):
        state, row = model.new_state(), np.append(ids, max(0, int(targets[-1])))
        for first in range(0, len(ids), BLOCK):
            part = row[first : first + BLOCK + 1]
            costs = read_costs(step, part, None, state).nats
            nats += float(costs @ (targets[first : first + BLOCK] != IGNORED))
            learner.add(part[:-1], None)
            while learner.missing <= 0:
                if learner.learn():
                    step = LiquidStep(model)
    return nats / math.log(2) / rows.text_bytes


def latest(text: str, name: str) -> Trial:
    """The run of `benchmarks.quality` with the most steps whose weights are here."""
    trials = []
    for entry in read_results("quality").get("trials", {}).values():
        given = {key: entry[key] for key in Trial.__dataclass_fields__ if key in entry}
        if (given.get("text"), given.get("model"), given.get("judge")) == (text, name, "test"):
            trial = Trial(**given)
            if trial.seed == 0 and weights_file(trial).exists():
                trials.append(trial)
    if not trials:
        raise SystemExit(f"there are no weights of {name} on {text}: run benchmarks.quality --text {text}")
    return max(trials, key=lambda trial: trial.steps)


def learn_on(trial: Trial, rates: tuple[float, ...] = RATES) -> dict[str, Any]:
    """{"bits_per_byte" of the test rows, "rate", "valid": {rate: bits per byte}, "seconds", "steps"}"""
    text = load(trial.text)
    model = build_variant(trial.model, text.tokenizer.vocab_size, trial.length).eval()
    load_model(model, str(weights_file(trial)))
    assert isinstance(model, Ours)
    valid = {rate: bits_per_byte(copy.deepcopy(model.model), text.valid, rate) for rate in rates}
    rate, begin = min(valid, key=valid.__getitem__), time.perf_counter()
    found = bits_per_byte(model.model, text.test, rate)
    seconds = time.perf_counter() - begin
    return {
        "bits_per_byte": found,
        "rate": rate,
        "valid": {str(key): value for key, value in valid.items()},
        "seconds": seconds,
        "steps": trial.steps,
        **machine(),
    }


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="learning_on", description=__doc__)
    parser.add_argument("--text", nargs="+", default=list(TEXTS)[:2], choices=list(TEXTS))
    parser.add_argument("--models", nargs="+", default=[OURS, WITH_COUNTS], metavar="NAME")
    given = parser.parse_args(argv)
    for text in given.text:
        for name in given.models:
            found = learn_on(latest(text, name))
            print(f"{text} {name}: {found['bits_per_byte']:.4f} at rate {found['rate']}", flush=True)
            add_results("quality", "learning_on", f"{text} {name}", found)


if __name__ == "__main__":
    with torch.random.fork_rng():
        torch.manual_seed(0)
        main()
