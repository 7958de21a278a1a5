"""Draw the stored results as docs/images/NAME.png, and in Spanish as NAME-es.png.

    python -m benchmarks.plots [NAME …]     # without names, all

A benchmark calls `redraw` when it has written its figures. Nothing is measured here.
"""

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks import machine
from benchmarks.plot_names import CLOCKS, MET, MODELS, TASKS, TEXTS, colour, label
from benchmarks.plots_es import translate

Figures = dict[str, Any]

IMAGES = Path(__file__).parents[1] / "docs" / "images"
"""Where the plots are written, so that the documentation shows them."""


def canvas(width: float, height: float, panels: int = 1, columns: int = 4) -> tuple[Figure, list[Axes]]:
    """A figure of this size in inches, with panels side by side in rows of at most `columns`."""
    figure = Figure(figsize=(width, height), layout="constrained")
    columns = min(panels, columns)
    axes = [figure.add_subplot(math.ceil(panels / columns), columns, i + 1) for i in range(panels)]
    for axis in axes:
        axis.grid(alpha=0.3)
        axis.set_axisbelow(True)
    return figure, axes


def legend_beside(figure: Figure) -> None:
    """One legend for all panels, to their right, so that it covers no line."""
    found: dict[str, Any] = {}
    for axis in figure.axes:
        for line, name in zip(*axis.get_legend_handles_labels(), strict=True):
            found.setdefault(name, line)
    figure.legend(found.values(), found.keys(), fontsize="small", loc="outside right upper")


def ticks(axis: Axes, values: list[int]) -> None:
    """Whole numbers, such as 1,024, on the horizontal axis."""
    axis.set_xticks(values, [f"{value:,}" for value in values])
    axis.set_xticks([], minor=True)


def quality(figures: Figures, text: str) -> Figure:
    """Bits per byte on the way, against minutes and against tokens: of each model its best run."""
    figure, (by_time, by_tokens) = canvas(11, 4.5, 2)
    by_tokens.sharey(by_time)
    for model, run in best_runs(figures, text).items():
        steps, bits = zip(*((step, score) for step, _, score in run["curve"][1:-1]), strict=True)
        kind = run["recipe"].removesuffix("-table")
        seconds = figures["speed"][text][model]["seconds"][f"{kind} {run['length']}"]
        tokens = run["rows"] * run["length"] / 1e6
        name = f"{label(model)}, {run['bits_per_byte']:.3f}"
        how: Figures = {"marker": "o", "label": name, "color": colour(model)}
        how["linestyle"] = "--" if " " in model else "-"
        by_time.plot([step * seconds / 60 for step in steps], bits, **how)
        by_tokens.plot([step * tokens for step in steps], bits, **how)
    by_time.set(
        xlabel="training time (minutes, 2 cores)",
        ylabel="loss on a validation sample (bits per byte)",
    )
    by_tokens.set(xlabel="training tokens (millions)")
    by_tokens.legend(fontsize="small", title="after 10 minutes, on the test text", title_fontsize="small")
    figure.suptitle(f"{TEXTS.get(text, text)}: loss during training")
    return figure


def best_runs(figures: Figures, text: str) -> dict[str, Figures]:
    """Of each model with a measured speed, the run with the lowest bits per byte of the test text."""
    found: dict[str, Figures] = {}
    for run in figures["trials"].values():
        if run["text"] == text and run["judge"] == "test" and run["span"] and run.get("seed") == 0:
            model = run["model"]
            better = model not in found or run["bits_per_byte"] < found[model]["bits_per_byte"]
            if model in figures["speed"][text] and better:
                found[model] = run
    return dict(sorted(found.items(), key=lambda each: each[1]["bits_per_byte"]))


def training_step(figures: Figures) -> Figure:
    """Training speed against the length of a row: a panel per vocabulary, a line per model."""
    panels: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for key, models in figures["lengths"].items():
        vocab, length = key.split("/")
        for name, entry in models.items():
            if "left_out" not in entry:
                lines = panels.setdefault(vocab, {})
                lines.setdefault(name, []).append((int(length), entry["tokens_per_second"]))
    figure, axes = canvas(6.5 * len(panels), 4, len(panels))
    for axis, (vocab, lines) in zip(axes, panels.items(), strict=True):
        for name, points in lines.items():
            kind, *variant = name.split(" ", 1)
            look = {
                "color": colour(kind) if kind in MODELS else "black",
                "linestyle": ":" if variant else "-",
            }
            axis.loglog(*zip(*sorted(points), strict=True), marker="o", label=label(name), **look)
        axis.set(title=f"training, vocabulary of {int(vocab):,}")
        axis.set(xlabel="length of a row (tokens)", ylabel="speed (tokens per second)")
        ticks(axis, sorted({length for points in lines.values() for length, _ in points}))
    legend_beside(figure)
    return figure


def generation(figures: Figures) -> Figure:
    """Writing speed against the context: a panel per number of rows."""
    batches = sorted({int(key.split("/")[0]) for key in figures["after"]})
    figure, axes = canvas(5.5 * len(batches), 4, len(batches))
    for axis, batch in zip(axes, batches, strict=True):
        found = {
            int(k.split("/")[1]): v for k, v in figures["after"].items() if int(k.split("/")[0]) == batch
        }
        dashes = iter((":", "--", "-."))
        for name in next(iter(found.values()))["tokens_per_second"]:
            speeds = {context: each["tokens_per_second"] for context, each in sorted(found.items())}
            points = [(context, speed[name]) for context, speed in speeds.items() if name in speed]
            kind, _, rest = name.partition(" ")
            limit = "bandwidth" in name
            shown = name if limit or not rest else label(f"{kind}, {rest}")
            look = {"linestyle": next(dashes), "color": "grey"} if limit else {"marker": "o"}
            axis.loglog(*zip(*points, strict=True), label=shown, **look)
        axis.set(title=f"{batch} text{'s' * (batch > 1)} at a time")
        axis.set(xlabel="context (tokens)", ylabel="speed (tokens per second)")
        ticks(axis, sorted(found))
    legend_beside(figure)
    return figure


def reading(figures: Figures) -> Figure:
    """Time of a written token against the length of the context."""
    figure, (axis,) = canvas(6, 3.2)
    contexts = {int(n): each for n, each in figures["milliseconds_per_token"].items()}
    axis.semilogx(list(contexts), list(contexts.values()), marker="o", color=colour("liquidlm"))
    axis.set(xlabel="context (tokens)", ylabel="time per token (ms)")
    axis.set_ylim(0, 1.2 * max(contexts.values()))
    axis.set_title("liquidlm: time of a token after a long context")
    ticks(axis, list(contexts))
    return figure


def layer(number: int) -> Figures:
    """The later a line is drawn, the thinner it is: one that lies behind another is seen."""
    return {"linewidth": max(1, 5 - number), "markersize": max(4, 12 - 2 * number)}


def long_context(figures: Figures) -> Figure:
    """Bits per byte against the position in a novel, and of rare words met before."""
    positions, words = figures.get("positions", {}), figures.get("words_met_before", {})
    panels = len(positions) + len(words)
    figure, axes = canvas(8 * min(2, panels), 4.5 * math.ceil(panels / 2), panels, 2)
    for axis, (text, found) in zip(axes, positions.items(), strict=False):
        for i, (name, bits) in enumerate(found["bits_per_byte"].items()):
            places = [max(int(first), 512) * 2**0.5 for first in bits]
            axis.semilogx(places, list(bits.values()), base=2, marker="o", label=label(name), **layer(i))
        axis.set(xlabel="position in the novel (bytes)", ylabel="loss (bits per byte)")
        axis.set_title(f"held-out {TEXTS[text].removesuffix(', bytes')}")
        ticks(axis, [2**n for n in range(10, 21, 2)])
        axis.legend(fontsize="small")
    for axis, (text, found) in zip(axes[len(positions) :], words.items(), strict=True):
        names = list(found["bits_per_byte"])
        for i, (kind, shown) in enumerate(MET.items()):
            bits = [found["bits_per_byte"][name][kind] for name in names]
            bars = axis.barh(np.arange(len(names)) + 0.4 * i, bits, 0.4, label=shown)
            axis.bar_label(bars, fmt="%.2f", padding=3)
        axis.set_yticks(np.arange(len(names)) + 0.2, [label(name) for name in names])
        axis.set(xlabel="loss (bits per byte)", title=f"rare words met before, {TEXTS[text]}")
        axis.margins(x=0.12)  # for the numbers beside the bars
        axis.invert_yaxis()
        axis.legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=2)
    return figure


def recall(figures: Figures) -> Figure:
    """Right answers against the length: a panel per task, a line per model."""
    from benchmarks.recall import TASKS as KNOWN
    from benchmarks.recall import best

    tasks = [task for task in KNOWN if any(entry["task"] == task for entry in figures["trials"].values())]
    figure, axes = canvas(4.2 * min(4, len(tasks)), 3.8 * math.ceil(len(tasks) / 4), len(tasks))
    for axis, task in zip(axes, tasks, strict=True):
        for i, entry in enumerate(best(figures["trials"], task).values()):
            points = [(int(key.split("/")[0]), 100 * share) for key, share in entry["accuracy"].items()]
            how: Figures = {"label": label(entry["model"]), "color": colour(entry["model"]), "marker": "o"}
            axis.semilogx(*zip(*points, strict=True), base=2, **how, **layer(i))
        axis.axvline(KNOWN[task].trained[-1][0], color="grey", linestyle=":")
        axis.set(title=TASKS.get(task, task), ylim=(-3, 103))
        axis.set(xlabel="length (tokens; dotted: longest in training)", ylabel="right answers (%)")
        axis.legend(fontsize="small")
    return figure


def apollo(figures: Figures) -> Figure:
    """How well the second of the next utterance is predicted, for each kind of clock."""
    trials = {name.partition(" [")[0]: run for name, run in figures["trials"].items()}
    grus = [name for name in trials if name.startswith("GRU")]
    chosen = min(grus, key=lambda name: trials[name]["choosing"], default=None)
    shown = {
        name: run
        for name, run in trials.items()
        if "nats_per_gap" in run.get("real", {}) and (name not in grus or name == chosen)
    }
    figure, (axis,) = canvas(9, 4)
    for i, (name, run) in enumerate(sorted(shown.items(), key=lambda each: each[1]["real"]["nats_per_gap"])):
        heights = [run.get(clock, {}).get("nats_per_gap", np.nan) for clock in CLOCKS]
        axis.bar(np.arange(len(CLOCKS)) + 0.27 * i, heights, 0.27, label=label(name.partition(" 0.")[0]))
    axis.set_xticks(np.arange(len(CLOCKS)) + 0.27, list(CLOCKS.values()))
    axis.set(ylabel="loss of the gap (nats)", title="when the next utterance comes, held-out missions")
    axis.legend()
    return figure


def surprise(figures: Figures) -> Figure:
    """Area under the ROC curve by kind of anomaly, a bar per method."""
    found = figures["areas"]
    kinds = [kind for kind in found["ours"] if kind != "form"]
    width = 0.8 / len(found)
    figure, (axis,) = canvas(10, 4)
    for number, (name, areas) in enumerate(found.items()):
        heights = [areas[kind] for kind in kinds]
        axis.bar(np.arange(len(kinds)) + width * number, heights, width, label=label(name))
    axis.axhline(0.5, color="black", linewidth=0.5)
    axis.set_xticks(np.arange(len(kinds)) + 0.4 - width / 2, kinds, fontsize=8)
    axis.set(ylabel="area under the ROC curve (1: perfect, 0.5: chance)", ylim=(0, 1.25))
    axis.set_yticks([0, 0.25, 0.5, 0.75, 1])
    axis.set_title("planted anomalies in the log of a service")
    axis.legend(fontsize=8, loc="upper center", ncols=4)
    return figure


def hdfs(figures: Figures) -> Figure:
    """Best F1 on sessions of HDFS, a bar per method."""
    found = figures["models"]["test"]
    names = sorted(found, key=lambda name: found[name]["f1"])
    figure, (axis,) = canvas(8, 3.2)
    colours = ["C0" if name == "liquidlm" else "C7" for name in names]
    bars = axis.barh(names, [found[name]["f1"] for name in names], color=colours)
    axis.bar_label(bars, [f"{found[name]['f1']:.3f}" for name in names], padding=3)
    axis.set(xlabel="best F1 (1: perfect)", xlim=(0, 1.1), title="unusual sessions of HDFS")
    return figure


def serving(figures: Figures) -> Figure:
    """Speed of the server by texts at a time, and its memory by requests."""
    figure, (speed, memory) = canvas(10, 4, 2)
    streams = sorted(map(int, figures["streams"]))
    rates = [figures["streams"][str(n)]["tokens_per_second"] for n in streams]
    places = np.arange(len(streams))
    speed.bar(places, rates, 0.4, label="liquidlm")
    if theirs := figures.get("llama_cpp"):
        others = [theirs["streams"][str(n)]["tokens_per_second"] for n in streams]
        speed.bar(places + 0.4, others, 0.4, label="Llama in llama.cpp")
        speed.legend(fontsize=8)
    speed.set_xticks(places, [str(n) for n in streams])
    speed.set(xlabel="texts at a time", ylabel="speed of all together (tokens per second)")
    memory.plot(*zip(*figures["memory_mb"], strict=True), marker="o")
    memory.set(xlabel="requests so far", ylabel="memory of the server (MB)", ylim=(0, None))
    figure.suptitle("liquidlm serve, the bundled model")
    return figure


def embedding_share(figures: Figures) -> Figure:
    """Time of a training step, and of its embedding stage."""
    figure, (axis,) = canvas(4, 3.2)
    names = {"step": "whole step", "embedding": "embedding, flow, ODE"}
    axis.boxplot([figures["seconds"][name] for name in names], tick_labels=list(names.values()))
    axis.set(ylabel="time (seconds)", ylim=(0, None), title="one training step of liquidlm")
    return figure


def gemm_share(figures: Figures) -> Figure:
    """Time of a training step, and of its matrix products at the machine's measured rate."""
    figure, (axis,) = canvas(7, 2.4)
    needed = figures["product_seconds_at_the_machines_rate"]
    seconds = {f"matrix products, {part}": each for part, each in needed.items()}
    seconds["whole step"] = figures["step_seconds_median"]
    axis.barh(list(seconds), list(seconds.values()))
    axis.set(xlabel="time (seconds)", title="one training step of liquidlm")
    return figure


PLOTS: dict[str, Callable[[Figures], Figure]] = {
    plot.__name__: plot
    for plot in (
        training_step,
        generation,
        reading,
        long_context,
        recall,
        apollo,
        surprise,
        hdfs,
        serving,
        embedding_share,
        gemm_share,
    )
}


def redraw(name: str) -> list[Path]:
    """Draw results/NAME.json, and write IMAGES/NAME.png and, in Spanish, IMAGES/NAME-es.png.

    Args:
        name: of a benchmark. "quality" and "quality_base" have one plot per text.

    Returns:
        the files in English.
    """
    figures = machine.read_results(name)
    if name in PLOTS:
        drawn = {name: PLOTS[name](figures)}
    else:
        texts = [text for text in figures.get("speed", {}) if best_runs(figures, text)]
        drawn = {f"{name}_{text}": quality(figures, text) for text in texts}
    files = [IMAGES / f"{file}.png" for file in drawn]
    for file, figure in zip(files, drawn.values(), strict=True):
        figure.savefig(file, dpi=130)
        translate(figure)
        figure.savefig(file.with_stem(f"{file.stem}-es"), dpi=130)
    return files


def main(argv: list[str] | None = None) -> None:
    for name in (sys.argv[1:] if argv is None else argv) or [*PLOTS, "quality"]:
        print(*redraw(name), sep="\n")


if __name__ == "__main__":
    main()
