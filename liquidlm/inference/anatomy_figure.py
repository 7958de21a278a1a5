"""The figures of `inspect` over one time axis, and as a PNG the list of the events above them."""

import io
import re
import warnings
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from jaxtyping import Float64

from ..runtime.files import write_file
from .inspection import Anatomy
from .time_axis import clock_text, clock_ticks, duration_text, duration_ticks, is_dated, spaced

WIDTH = 11.0
"""Inches."""
DPI = 120
"""Pixels in an inch of a PNG. A character of 7 points is then 7 pixels wide, in whole pixels."""
ROW = 0.17
"""Inches of a row of the list."""
CHARACTERS = 118
"""The list in a PNG shows this many characters of an event's text."""
CHANGE = 1.5
"""Time constants are drawn where the largest median over the events is this many times the smallest."""
AGES = 10
"""Rows of the plot of what is read, beside the event itself."""
TINTS = 10
"""Steps of the tint of a word."""


class Palette(NamedTuple):
    """Colours of a figure, each another one: a page replaces them by names."""

    ink: str = "#1b1f27"
    muted: str = "#5d6673"
    rule: str = "#d5dae2"
    paper: str = "#ffffff"
    accent: str = "#2166c9"
    real: str = "#d1492e"
    series: tuple[str, ...] = ("#2167ca", "#b3561b", "#12805c", "#8a4bbf", "#a8326e", "#66720d")


DARK = Palette(
    ink="#e7eaf0",
    muted="#9aa4b2",
    rule="#363d49",
    paper="#14171c",
    accent="#5b9bf3",
    real="#ff7d5e",
    series=("#5c9cf4", "#f0954c", "#3fc397", "#bd8cf0", "#ec74ae", "#bccb4a"),
)
TINT = "#e8a317"
"""Of surprising words, drawn over the paper with `strength`."""


def strength(bits: float, full: float) -> int:
    """How strong the tint of a word is, from 0 to TINTS; `full` bits and more have the strongest."""
    return round(TINTS * min(1.0, max(0.0, bits) / full))


def full_bits(found: Anatomy) -> float:
    """The bits of a word that has the strongest tint: 19 of 20 words have fewer."""
    bits = [bit for words in found.words for _, bit in words]
    return max(1.0, float(np.quantile(bits, 0.95))) if bits else 1.0


def time_figure(found: Anatomy, colours: Palette, above: float = 0.0) -> Any:
    """The figures over time, and `above` free inches above them."""
    from matplotlib.figure import Figure

    changing = _changing(found)
    heights = [0.35, 2.2, *([1.6] if found.retention else []), *(1.7 for _ in found.attention)]
    heights += [1.8] if changing else []
    below = sum(heights) + 0.62 * len(heights)
    figure = Figure(figsize=(WIDTH, above + below), layout="constrained", facecolor=colours.paper)
    cast(Any, figure.get_layout_engine()).set(rect=(0.0, 0.0, 1.0, below / (above + below)))
    grid = figure.add_gridspec(len(heights), 1, height_ratios=heights)
    panels = [figure.add_subplot(grid[0])]
    panels += [figure.add_subplot(grid[i], sharex=panels[0]) for i in range(1, len(heights))]
    rest = iter(panels)
    _draw_events(next(rest), found, colours)
    _draw_gaps(next(rest), found, colours)
    if found.retention:
        _draw_retention(next(rest), found, colours)
    for name, weights in found.attention.items():
        _draw_reads(next(rest), name, weights, found, colours)
    if changing:
        _draw_time_constants(next(rest), changing, found, colours)
    for panel in panels:
        _style(panel, colours)
    _draw_clock(panels, found, colours)
    return figure


def svg(found: Anatomy) -> str:
    """The figures as an element of a page, with the names of `Palette` as colours: var(--ink), …"""
    from matplotlib import rc_context

    colours, file = Palette(), io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "liquidlm"}):
        figure = time_figure(found, colours)
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    text = file.getvalue()[file.getvalue().index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"font-family: [^;\"]*", "font-family: sans-serif", text)
    for name, value in colours._asdict().items():
        for number, colour in enumerate(value if isinstance(value, tuple) else (value,)):
            text = text.replace(colour, f"var(--{name}{number if isinstance(value, tuple) else ''})")
    return text


def draw_png(found: Anatomy, file: Path, colours: Palette | None = None) -> Path:
    """Draw the list of the events, and the figures below it, into a PNG file; returns its path.

    Args:
        found: of `examine`.
        file: replaced all or nothing.
        colours: None: dark on white.

    Raises:
        LiquidError: the file cannot be written.
    """
    colours = colours or Palette()
    above = ROW * (len(found.times) + 2.5)
    figure = time_figure(found, colours, above)
    share = above / figure.get_figheight()
    axis = figure.add_axes((0.0, 1 - share, 1.0, share))
    axis.set_in_layout(False)
    _draw_list(axis, found, colours)

    def save(part: Path) -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph")  # a character that the font does not have
            figure.savefig(part, format="png", dpi=DPI)

    return write_file(file, save)


def _draw_list(axis: Any, found: Anatomy, colours: Palette) -> None:
    """A row for each event: number, time, bits of its gap and text, and its text with tinted words."""
    from matplotlib.patches import Rectangle

    count, full, dated = len(found.times), full_bits(found), is_dated(float(found.times[0]))
    font: dict[str, Any] = {"family": "DejaVu Sans Mono", "fontsize": 7, "va": "center", "parse_math": False}
    width, begin = 7 / DPI, 3.7  # inches of a character (0.602 · 7 pt); where the text begins
    axis.set(xlim=(0, WIDTH), ylim=(count + 1.5, -1))
    axis.axis("off")
    head = dict(zip((0.65, 2.1, 2.8, 3.5), ("event", "time", "gap, bits", "text, bits"), strict=True))
    for x, text in head.items():
        axis.text(x, -0.5, text, ha="right", color=colours.muted, **font)
    axis.text(
        begin,
        -0.5,
        f"text; the strongest tint is {full:.0f} bits a word and more",
        color=colours.muted,
        **font,
    )
    for row, words in enumerate(found.words):
        gap, time = found.gap_bits[row], clock_text(float(found.times[row]), dated)
        cells = (
            str(found.first + row),
            time,
            "–" if np.isnan(gap) else f"{gap:.1f}",
            f"{found.text_bits[row]:.0f}",
        )
        for x, text in zip(head, cells, strict=True):
            axis.text(x, row + 0.5, text, ha="right", color=colours.muted, **font)
        shown = ""
        for word, bits in words:
            word = word if shown else word.lstrip()
            blank, word = len(word) - len(word.lstrip()), one_line(word)
            place, size = begin + width * (len(shown) + blank), width * (len(word) - blank)
            alpha = 0.7 * strength(bits, full) / TINTS
            axis.add_patch(
                Rectangle((place, row + 0.05), size, 0.9, facecolor=TINT, alpha=alpha, linewidth=0)
            )
            shown += word
            if len(shown) > CHARACTERS:
                break
        if len(shown) > CHARACTERS:
            shown = shown[:CHARACTERS] + "…"
            end = begin + width * (len(shown) + 1)
            axis.add_patch(Rectangle((end, row), 9, 1, facecolor=colours.paper, linewidth=0))
        axis.text(begin, row + 0.5, shown, color=colours.ink, **font)


def one_line(text: str) -> str:
    """A text with its line breaks and control characters as signs, of the same length."""
    return "".join("↵" if c == "\n" else c if c.isprintable() else " " if c.isspace() else "·" for c in text)


def _style(axis: Any, colours: Palette) -> None:
    axis.set_facecolor("none")
    axis.tick_params(colors=colours.muted, labelsize=8, labelbottom=False, length=3)
    axis.tick_params(which="minor", left=False, bottom=False)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axis.spines[side].set_color(colours.rule)
    if (legend := axis.get_legend()) is not None:
        legend.set_frame_on(False)
        for text in legend.get_texts():
            text.set_color(colours.ink)


def _title(axis: Any, text: str, colours: Palette) -> None:
    axis.set_title(text, loc="left", fontsize=9.5, color=colours.ink, pad=5)


def _legend(axis: Any) -> None:
    axis.legend(loc="center left", bbox_to_anchor=(1.005, 0.5), fontsize=8, handlelength=1.4, borderaxespad=0)


def _draw_clock(panels: list[Any], found: Anatomy, colours: Palette) -> None:
    """Ticks of the common axis; their labels below the last panel."""
    first, last = (float(found.times[at]) for at in (0, -1))
    margin = 0.01 * max(last - first, 1e-3)
    panels[0].set_xlim(first - margin, last + margin)
    places, labels = clock_ticks(first, last, 7)
    for panel in panels[1:]:
        panel.set_xticks(places)
        panel.grid(axis="x", color=colours.rule, linewidth=0.5, zorder=0)
    panels[-1].tick_params(labelbottom=True)
    panels[-1].set_xticks(places, labels)
    dated = is_dated(first)
    panels[-1].set_xlabel(
        f"time, from {clock_text(first, dated)}" + " UTC" * dated, fontsize=8.5, color=colours.muted
    )


def _draw_events(axis: Any, found: Anatomy, colours: Palette) -> None:
    """A mark for each event, and the numbers of those that have room."""
    axis.vlines(found.times, 0, 1, color=colours.accent, linewidth=0.7)
    room = 0.007 * len(str(found.first + len(found.times))) + 0.012  # of the width
    for number in spaced(found.times, room * max(float(found.times[-1] - found.times[0]), 1e-6)):
        axis.text(
            found.times[number],
            1.12,
            str(found.first + number),
            ha="center",
            va="bottom",
            fontsize=7,
            color=colours.muted,
        )
    axis.set(yticks=[], ylim=(0, 1))
    axis.set_title("Events, with their numbers", loc="left", fontsize=9.5, color=colours.ink, pad=16)
    axis.spines["left"].set_visible(False)


def _duration_axis(axis: Any, shortest: float, longest: float, has_zero: bool = False) -> None:
    """A logarithmic scale of durations. A duration of 0 is drawn at the shortest."""
    low, high = shortest / 1.3, longest * 1.3
    axis.set(yscale="log", ylim=(low, high))
    zero = [shortest] if has_zero else []
    places = [each for each in duration_ticks(low, high) if not zero or each > 2 * shortest]
    axis.set_yticks([*zero, *places], [*("0" for _ in zero), *map(duration_text, places)])


def _draw_gaps(axis: Any, found: Anatomy, colours: Palette) -> None:
    """The true gaps, over the range that the model predicts."""
    at, least = found.times[:-1], max(1e-6, found.gaps[found.gaps > 0].min(initial=1.0) / 3)
    true, drawn = np.maximum(found.gaps, least), [found.gaps]
    if found.quantiles is not None:
        low, middle, high = np.maximum(found.quantiles, least)
        thin = 4.0 if len(at) <= 60 else 1.8
        axis.vlines(at, low, high, color=colours.accent, alpha=0.35, linewidth=thin, label="predicted: 80 %")
        axis.plot(at, middle, "_", color=colours.accent, markersize=2 + thin, label="predicted: median")
        drawn += [low, high]
    axis.plot(at, true, ".", color=colours.real, markersize=5 if len(at) <= 60 else 3, label="real")
    longest = max(float(each.max()) for each in drawn)
    _duration_axis(axis, least, longest, has_zero=bool((found.gaps == 0).any()))
    both = ", predicted and real" if found.quantiles is not None else ""
    _title(axis, f"Time from each event to the next{both}", colours)
    _legend(axis)


def _draw_retention(axis: Any, found: Anatomy, colours: Palette) -> None:
    """What is left of the memory of the first event."""
    for colour, (name, heads) in zip(_cycle(colours), found.retention.items(), strict=False):
        count = heads.shape[1]
        for head in range(count):
            label = f"{name}" + f" ({count} heads)" * (count > 1) if head == 0 else None
            axis.step(found.times, heads[:, head], where="post", color=colour, linewidth=1.2, label=label)
    axis.set(ylim=(-0.03, 1.05), yticks=[0, 0.5, 1])
    axis.set_yticklabels(["0", "half", "all"])
    _title(axis, "What is left of the memory at the first event, in each head", colours)
    _legend(axis)


def _draw_reads(
    axis: Any, name: str, weights: Float64[np.ndarray, "e e"], found: Anatomy, colours: Palette
) -> None:
    """How old is what each event reads: the share of its weights."""
    from matplotlib.colors import LinearSegmentedColormap

    shares, edges = read_ages(weights, found.times)
    clear = LinearSegmentedColormap.from_list("reads", ["#3f83e000", "#3f83e0ff"])
    image = axis.pcolormesh(
        np.append(found.times, found.times[-1] + max(float(np.median(found.gaps)), 1e-6)),
        np.arange(len(edges) + 1),
        shares.T,
        cmap=clear,
        vmin=0,
        vmax=max(float(np.quantile(shares, 0.98)), 1e-6),
        rasterized=True,
    )
    image.set_edgecolor("none")
    labels = ["itself", *(duration_text(edge) for edge in edges[1:])]
    shown = [0, *range(2, len(edges), 2)]
    axis.set_yticks([0.5, *(float(i) for i in shown[1:])], [labels[0], *(labels[i] for i in shown[1:])])
    axis.set_ylim(0, len(edges))
    _title(axis, f"What the reads attend to in {name}: how long ago it was written (stronger: more)", colours)


def read_ages(
    weights: Float64[np.ndarray, "e e"], times: Float64[np.ndarray, " e"]
) -> tuple[Float64[np.ndarray, "e rows"], Float64[np.ndarray, " rows"]]:
    """The shares of each event's weights by the age of what it reads, and the least age of each row.

    Row 0 is the event itself. The other rows have equal ratios of ages.
    """
    ages = times[:, None] - times[None, :]
    number = np.arange(len(times))
    past = number[:, None] > number[None, :]
    longest = max(float(ages.max()), 1e-6)
    shortest = max(float(ages[past & (ages > 0)].min(initial=longest)), longest / 1e5)
    edges = np.geomspace(shortest, longest, AGES + 1)[:-1]
    row = np.where(past, 1 + np.clip(np.searchsorted(edges, ages, "right") - 1, 0, AGES - 1), 0)
    weights = np.where(number[:, None] >= number[None, :], weights, 0.0)
    shares = np.stack([(weights * (row == each)).sum(1) for each in range(AGES + 1)], 1)
    return shares / np.maximum(shares.sum(1, keepdims=True), 1e-30), np.array([0.0, *edges])


def _changing(found: Anatomy) -> dict[str, Float64[np.ndarray, "3 e"]]:
    """The blocks whose median time constant changes over the events."""
    every = found.time_constants.items()
    return {name: each for name, each in every if each[1].max() > CHANGE * each[1].min()}


def constant_time_constants(found: Anatomy) -> dict[str, tuple[float, float, float]]:
    """Quartiles of the time constants, for the blocks in which they hardly change: they are not drawn."""
    rest = {name: each for name, each in found.time_constants.items() if name not in _changing(found)}
    return {name: (*np.median(each, 1).tolist(),) for name, each in rest.items()}


def _draw_time_constants(
    axis: Any, changing: dict[str, Float64[np.ndarray, "3 e"]], found: Anatomy, colours: Palette
) -> None:
    """Median and quartiles of each block's time constants."""
    for colour, (name, (low, middle, high)) in zip(_cycle(colours), changing.items(), strict=False):
        axis.step(found.times, middle, where="post", label=name, color=colour, linewidth=1.2)
        axis.fill_between(found.times, low, high, step="post", alpha=0.15, color=colour, linewidth=0)
    _duration_axis(
        axis,
        min(float(low.min()) for low, _, _ in changing.values()),
        max(float(high.max()) for _, _, high in changing.values()),
    )
    _title(
        axis, "How fast the state forgets: time constants where they change (median and quartiles)", colours
    )
    _legend(axis)


def _cycle(colours: Palette) -> list[str]:
    return [colours.series[i % len(colours.series)] for i in range(1000)]
