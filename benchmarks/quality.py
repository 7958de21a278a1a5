"""liquidlm and other models on real text at equal training time: bits per byte of held-out text.

    python -m benchmarks.quality --text novels-en [--models liquidlm llama …] [--minutes 10] [--seeds 1]
    python -m benchmarks.quality --text novels-en --matched llama     # ours with that peer's number of steps

First the seconds of a training step, all models in turn, alone on the machine with all its cores. From them
the steps that fit into the time; the runs are then measured in steps, and may share the machine. Every model
is given the same tokens per step and the recipe (optimiser, learning rate, and for those that do not carry a
state the length of a row) that was best in a short sweep, its learning rate decayed to 0 in each run. What
results/quality.json has already is not run again. `--base` compares models of 25 million parameters in large
steps, for a GPU, by the recipes that were best for the small ones, in results/quality_base.json.
"""

import argparse
import itertools
import statistics
from dataclasses import replace
from typing import Any, NamedTuple

import torch

from benchmarks.learning import Trial, run_trials
from benchmarks.machine import add_results, machine, read_results
from benchmarks.peers import MODELS, OURS, SIZES, RecurrentStack, build
from benchmarks.plots import redraw
from benchmarks.texts import TEXTS, load
from benchmarks.timing import interleaved, medians
from benchmarks.training_step import TrainingStep, bf16_is_faster
from liquidlm.runtime.precision import best_device

COMPARED = [OURS, "llama", "gated_delta", "mingru", "lstm", "mamba2", "cfc"]
OPTIMISERS = [("adamw", 0.001), ("adamw", 0.003), ("adamw", 0.01), ("muon", 0.02)]
TABLE = [("adamw-table", 0.003), ("adamw-table", 0.01)]
"""Tried as well where the embedding's table begins at N(0, 1) and learns at one rate with all else."""
CARRIED, ALONE = [256], [1024, 256]
"""Tokens in a row: where the state is carried from step to step, and where each row stands alone."""


class Contest(NamedTuple):
    """Models of one size: where their results are kept, and tokens per step."""

    name: str
    size: str
    tokens: int


SMALL = Contest("quality", "", 2048)
BASE = Contest("quality_base", "base/", 16384)


class Recipe(NamedTuple):
    """How a model is trained."""

    optimiser: str
    lr: float
    length: int


def recipes(model: str) -> list[Recipe]:
    """What the sweep tries."""
    built = build(model, 8, ALONE[0])
    lengths = CARRIED if built.carries else ALONE
    optimisers = [*OPTIMISERS, *(TABLE if isinstance(built, RecurrentStack) else [])]
    return [Recipe(*optimiser, length) for length in lengths for optimiser in optimisers]


def timed(optimiser: str) -> str:
    """The optimiser whose steps take as long: a rate of the table's own costs nothing."""
    return optimiser.removesuffix("-table")


def measure_speed(
    contest: Contest, text: str, names: list[str], again: bool = False, rounds: int = 5
) -> dict[str, Any]:
    """{model: {"bf16", "seconds": {"optimiser length": of a step}, the kind of processor, the commit}}.

    All `names` are measured together if `again`, or if one is missing, or was measured on another kind.
    """
    here = machine()
    place = {name: here[name] for name in ("instructions", "gpu")}
    known = read_results(contest.name).get("speed", {}).get(text, {})
    if not again and all(place.items() <= known.get(name, {}).items() for name in names):
        return known
    vocab, stream = load(text).tokenizer.vocab_size, load(text).train.tokens
    ids = torch.from_numpy(stream[: contest.tokens].astype("int64"))
    found: dict[str, dict[str, Any]] = {}
    device = best_device()
    for name in names:
        found[name] = {
            "bf16": bf16_is_faster(name, vocab, contest.tokens, device),
            "seconds": {},
            **place,
            "commit": here["commit"],
        }
    steps = {
        f"{name} {optimiser} {length}": TrainingStep(
            name, vocab, ids.view(-1, length), found[name]["bf16"], optimiser, device
        )
        for name in names
        for optimiser, length in dict.fromkeys(
            (timed(optimiser), length) for optimiser, _, length in recipes(name)
        )
    }
    for key, seconds in medians(interleaved(dict(steps), rounds)).items():
        name, optimiser, length = key.rsplit(" ", 2)  # a name can have spaces
        found[name]["seconds"][f"{optimiser} {length}"] = seconds
    return add_results(contest.name, "speed", text, found)["speed"][text]


def trial(
    contest: Contest,
    text: str,
    model: str,
    recipe: Recipe,
    speed: dict[str, Any],
    minutes: float,
    **more: Any,
) -> Trial:
    """A run of as many steps as fit into so many minutes."""
    steps = max(2, round(60 * minutes / speed["seconds"][f"{timed(recipe.optimiser)} {recipe.length}"]))
    shape = {"rows": contest.tokens // recipe.length, "length": recipe.length, "bf16": speed["bf16"]}
    return Trial(text, model, recipe.optimiser, recipe.lr, steps, **shape, **more)


def sweep(
    text: str, models: list[str], speed: dict[str, Any], minutes: float, workers: int
) -> dict[str, Recipe]:
    """Per model the recipe with the lowest bits per byte after a short run, on the text to choose by. (Runs
    of one minute chose otherwise than whole ones do; docs/experiments.md.) Models of another size take the
    recipe of the small ones."""
    tried = {model: recipes(model) for model in models}
    trials = {
        (model, recipe): trial(SMALL, text, model, recipe, speed[model], minutes)
        for model in models
        for recipe in tried[model]
    }
    results = run_trials(SMALL.name, trials.values(), workers)
    best = {}
    for model in models:
        scores = {recipe: _score(results[trials[model, recipe].key]) for recipe in tried[model]}
        best[model] = min(scores, key=scores.__getitem__)
        for recipe, score in scores.items():
            print(
                f"{text} {model:12} {tuple(recipe)}: {score:.4f}{' ▶' * (recipe == best[model])}", flush=True
            )
    return best


def _score(result: dict[str, Any]) -> float:
    score = result.get("bits_per_byte", float("inf"))
    return score if score == score else float("inf")  # not NaN


def table(text: str, runs: dict[str, list[dict[str, Any]]]) -> str:
    """Bits per byte, mean over seeds; steps, tokens, and how much higher than ours."""
    ours = [run["bits_per_byte"] for model, mine in runs.items() if model.endswith(OURS) for run in mine]
    own = statistics.mean(ours) if ours else float("nan")
    lines = [f"{text}: bits per byte, test, weights fixed; steps; tokens; parameters; recipe"]
    for model, mine in runs.items():
        scores = [run["bits_per_byte"] for run in mine]
        mean, first = statistics.mean(scores), mine[0]
        lines.append(
            f"{model:16} {mean:.4f} ({mean / own - 1:+.1%} of ours, {len(scores)} seeds)"
            f" {first['steps']:6} {first['steps'] * first['rows'] * first['length']:10,}"
            f" {first['parameters']:10,} {first['recipe']} {first['lr']}"
        )
    return "\n".join(lines)


def compressed(text: str) -> str:
    """The compressors' bits per byte, of `benchmarks.compressors`, a line each; empty if it has not run."""
    known = read_results(SMALL.name).get("compressors", {}).get(text, {})
    return "".join(
        f"\n{name:16} {entry['bits_per_byte']:.4f} (learns on over the test text)"
        f" {entry['seconds']:.1f} s of CPU time, {entry['memory_bytes'] / 1e6:,.0f} MB"
        for name, entry in known.items()
    )


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog=SMALL.name, description=__doc__)
    parser.add_argument("--text", default="novels-en", choices=list(TEXTS))
    parser.add_argument("--base", action="store_true", help="models of 25 million parameters, for a GPU")
    parser.add_argument("--models", nargs="+", choices=list(MODELS), metavar="NAME")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--sweep-minutes", type=float, default=3.0)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2, help="runs at a time; they share the cores")
    parser.add_argument(
        "--recipe", metavar="OPTIMISER:RATE", help="of all models, in rows of 256, in place of a sweep"
    )
    parser.add_argument("--measure", action="store_true", help="measure the seconds of a step again")
    parser.add_argument(
        "--matched", choices=list(MODELS), help="only liquidlm, with this model's number of steps"
    )
    given = parser.parse_args(argv)
    contest = BASE if given.base else SMALL
    if given.models is None:
        given.models = list(SIZES["base"]) if given.base else COMPARED
    models, ours = [contest.size + model for model in given.models], contest.size + OURS
    speed = measure_speed(contest, given.text, models, given.measure)
    small = speed if contest is SMALL else read_results(SMALL.name)["speed"][given.text]
    if given.recipe:
        optimiser, lr = given.recipe.split(":")
        chosen = dict.fromkeys(given.models, Recipe(optimiser, float(lr), CARRIED[0]))
    else:
        chosen = sweep(given.text, given.models, small, given.sweep_minutes, given.workers)
    best = {contest.size + model: recipe for model, recipe in chosen.items()}
    trials = {
        model: [
            trial(
                contest,
                given.text,
                model,
                best[model],
                speed[model],
                given.minutes,
                seed=seed,
                judge="test",
            )
            for seed in range(given.seeds)
        ]
        for model in models
    }
    if given.matched:
        (peer, *_), own = trials[contest.size + given.matched], trials[ours]
        trials = {ours: [replace(each, steps=peer.steps) for each in own]}
    results = run_trials(contest.name, itertools.chain(*trials.values()), given.workers)
    runs = {model: [results[each.key] for each in mine] for model, mine in trials.items()}
    print(table(given.text, runs) + compressed(given.text))
    if not given.matched:
        redraw(contest.name)


if __name__ == "__main__":
    main()
