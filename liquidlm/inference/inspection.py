"""What a model does at each event of a text with times, as figures and as a plot: `liquidlm inspect`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64, Int
from torch import Tensor

from ..errors import LiquidError
from ..model.block import LiquidBlock, products_in
from ..model.language_model import LiquidLanguageModel
from ..model.segments import SEGMENT
from ..nn.cells import AsyncLiquidCell, TimeMixer
from ..nn.cells.decay import time_constant
from ..nn.events import Events
from ..nn.state import CellState, LiquidCache
from ..runtime.files import write_file
from ..text.corpus import Document
from ..text.tokenizer import LEDTokenizerWrapper
from .generate import read_output

LEVELS = (0.1, 0.5, 0.9)
"""The quantiles of the predicted gap that the plot shows."""
LABEL = 60
"""The plot shows this many characters of an event's text."""


@dataclass
class Anatomy:
    """What a model does at each of e events. Times are in seconds.

    Attributes:
        times: of the events.
        texts: of the events.
        gaps: from each event to the next, for all but the last.
        quantiles: LEVELS of the gap to the next event, as the model predicts it at the event's last token;
            None without a time head.
        time_constants: for each block, quartiles over units and over the event's tokens.
        retention: for each block with a memory, and each of its n heads: the share of the memory of the first
            event that is left at each event.
        attention: for each block with a memory: |weight| with which each event (rows) reads what each event
            (columns) wrote, summed over tokens and heads, relative to the largest.
    """

    times: Float64[np.ndarray, " e"]
    texts: list[str]
    gaps: Float64[np.ndarray, " e_minus_1"]
    quantiles: Float64[np.ndarray, "3 e_minus_1"] | None = None
    time_constants: dict[str, Float64[np.ndarray, "3 e"]] = field(default_factory=dict)
    retention: dict[str, Float64[np.ndarray, "e n"]] = field(default_factory=dict)
    attention: dict[str, Float64[np.ndarray, "e e"]] = field(default_factory=dict)


@torch.inference_mode()
def examine(
    model: LiquidLanguageModel,
    tokenizer: LEDTokenizerWrapper,
    document: Document,
    first: int = 0,
    count: int = 40,
) -> Anatomy:
    """What a model does at some events of a document. The events before them are read into the state first.

    Args:
        model: in evaluation mode.
        tokenizer: its tokenizer.
        document: a text with times.
        first: number of the first event, from 0 on.
        count: largest number of events.

    Raises:
        LiquidError: the document has no times, fewer than two events from `first` on, or too much text.
    """
    if not document.marks:
        raise LiquidError(f"{document.source} has no times: give a text whose lines begin with times")
    texts = [text for _, text in document.events()]
    runs = tokenizer.encode_all(texts)
    number = np.repeat(np.arange(len(texts)), [len(run) for run in runs])
    number = np.concatenate([[0], number])  # `<s>` is at the first event's time
    shown = np.flatnonzero((number >= first) & (number < first + count))
    if shown.size > SEGMENT:
        raise LiquidError(
            f"{count} events from number {first} on have over {SEGMENT:,} tokens: choose fewer events"
        )
    last = int(number[shown[-1]]) if shown.size else first
    if last - first < 1:
        raise LiquidError(f"{document.source} has {len(texts)} events: fewer than two from number {first} on")
    begin, end = int(shown[0]), int(shown[-1]) + 1
    tokens = np.concatenate([[tokenizer.bos_token_id], *runs])[:end].astype(np.int64)
    clock = np.array([time for _, time in document.marks], np.float64)
    ids = torch.from_numpy(tokens)[None].to(model.device)
    times = torch.from_numpy(clock[number[:end]])[None].to(model.device)
    state = model.new_state()
    if begin:
        read_output(model, ids[:, :begin], state, times[:, :begin])
    output, seen = _seen(model, ids[:, begin:], times[:, begin:], state)
    of_event = number[begin:end] - first
    every = clock[first : last + 1]
    found = Anatomy(every, [text.strip() for text in texts[first : last + 1]], np.diff(every))
    if model.time_head is not None:
        final = np.flatnonzero(np.diff(of_event, append=of_event[-1] + 1))[:-1]  # an event's last token
        gap = model.next_gap(output.features[0, final], ids[0, begin + final + 1])
        scale = model.config.time_scale
        found.quantiles = np.stack([gap.quantile(level).double().cpu().numpy() * scale for level in LEVELS])
    for number_, (block, given) in enumerate(zip(model.blocks, seen, strict=True)):
        with products_in(given[0].dtype, given[0].device):
            scale = model.config.time_scale
            _examine_block(f"block {number_}", cast(LiquidBlock, block), *given, scale, of_event, found)
    return found


@torch.inference_mode()
def token_time_constants(model: LiquidLanguageModel, ids: Int[Tensor, "1 t"]) -> Float[Tensor, "blocks t 3"]:
    """Time constants of the state of each block after each token: quartiles over the units, in the unit of
    the times. The tokens are one unit apart, and the state before them is empty."""
    _, seen = _seen(model, ids, None, model.new_state(), logits_to_keep=1)
    levels = torch.tensor((0.25, 0.5, 0.75), dtype=torch.float64)
    found = []
    for block, (x, events, state) in zip(model.blocks, seen, strict=True):
        mixer, u = cast(TimeMixer, block.mixer), cast(Any, block).mixer_norm(x)
        with products_in(u.dtype, u.device):
            context, _ = mixer.context(mixer.conv(u, events, state.conv)[0], events, state)
            scale = model.config.time_scale
            found.append(_time_constants(mixer, context, events, state, scale).cpu())
    return torch.stack([constants.quantile(levels, 1).mT for constants in found])


def _seen(
    model: LiquidLanguageModel,
    ids: Int[Tensor, "1 t"],
    times: Float64[Tensor, "1 t"] | None,
    state: LiquidCache,
    logits_to_keep: int = 0,
) -> tuple[Any, list[tuple[Float[Tensor, "1 t h"], Events, CellState]]]:
    """The output for at most SEGMENT tokens, and the inputs of every block."""
    seen: list[Any] = []
    hooks = [block.register_forward_pre_hook(lambda _, given: seen.append(given)) for block in model.blocks]
    try:
        output = model(
            ids, timestamps=times, past_key_values=state, use_cache=True, logits_to_keep=logits_to_keep
        )
    finally:
        for hook in hooks:
            hook.remove()
    return output, seen


def _time_constants(
    mixer: TimeMixer,
    context: Float[Tensor, "1 t h"],
    events: Events,
    state: CellState,
    time_scale: float,
) -> Float64[Tensor, "t h"]:
    """The time constant of every unit at every token, in the unit of the times."""
    cell = mixer.cell
    before = None
    if cell.neuron.context == "state":
        h = cell.scan(context, events.duration, state.h)
        before = torch.cat([state.h[:, None], h[:, :-1]], 1)
    rate, _ = cell.neuron.conductances(context, before)
    weight = 1.0 if events.gap_weight is None else events.gap_weight
    pace = cell.own_time(context, torch.full_like(events.gap, weight))
    return time_constant(rate, pace, time_scale)[0].double()


def _examine_block(
    name: str,
    block: LiquidBlock,
    x: Float[Tensor, "1 t h"],
    events: Events,
    state: CellState,
    time_scale: float,
    of_event: np.ndarray,
    found: Anatomy,
) -> None:
    """Add a block's time constants, and retention and attention of its memory, to `found`."""
    mixer, count = cast(TimeMixer, block.mixer), len(found.times)
    u = block.mixer_norm(x)
    c = mixer.conv(u, events, state.conv)[0]
    context, _ = mixer.context(c, events, state)
    constants = _time_constants(mixer, context, events, state, time_scale).cpu().numpy()
    found.time_constants[name] = np.stack(
        [np.quantile(constants[of_event == event], (0.25, 0.5, 0.75)) for event in range(count)], 1
    )
    if not isinstance(mixer, AsyncLiquidCell):
        return
    reads = mixer.reads(c, events)
    decay = reads.log_decay[0, :: mixer.num_writes].double()  # an event's first write is after its gap
    decay = decay.masked_fill(torch.from_numpy(of_event == 0).to(decay.device)[:, None], 0.0)
    kept = decay.cumsum(0)
    at = np.searchsorted(of_event, np.arange(count), "right") - 1
    found.retention[name] = kept[at].exp().clamp(max=1.0).cpu().numpy()
    weights = mixer.weights(u, events, state)
    assert weights is not None
    member = F.one_hot(torch.from_numpy(of_event), count).to(weights.dtype).to(weights.device)
    by_event = member.mT @ weights[0].abs().sum(0) @ member
    found.attention[name] = (by_event / by_event.max().clamp(min=1e-30)).double().cpu().numpy()


def draw(found: Anatomy, file: Path) -> Path:
    """Draw the figures over time into a PNG file: events, gaps, time constants, memories. Returns its path.

    Args:
        found: of `examine`.
        file: replaced all or nothing.

    Raises:
        LiquidError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    blocks, at = len(found.attention), found.times - found.times[0]
    figure = Figure(figsize=(13, 13 + 4 * bool(blocks)), layout="constrained")
    grid = figure.add_gridspec(4 + bool(blocks), 1, height_ratios=[1.2, 1, 1, 1, *([1.6] if blocks else [])])
    events = figure.add_subplot(grid[0])
    gaps, constants, memories = (figure.add_subplot(grid[i], sharex=events) for i in (1, 2, 3))
    _draw_events(events, at, found)
    _draw_gaps(gaps, at, found)
    _draw_time_constants(constants, at, found)
    _draw_retention(memories, at, found)
    if blocks:
        maps = grid[4].subgridspec(1, blocks)
        for i, (name, weights) in enumerate(found.attention.items()):
            _draw_attention(figure.add_subplot(maps[i]), name, weights)
    return write_file(file, lambda part: figure.savefig(part, format="png", dpi=120))


def _draw_events(axis: Any, at: np.ndarray, found: Anatomy) -> None:
    """A line per event, with its text."""
    axis.vlines(at, 0, 1, color="#9db8d2")
    for time, text in zip(at, found.texts, strict=True):
        short = text[:LABEL] + "…" * (len(text) > LABEL)
        axis.text(time, 0.02, short.replace("$", r"\$"), rotation=90, fontsize=6, va="bottom", ha="right")
    axis.set(title="Events of the text, at their times", yticks=[], ylim=(0, 1))


def _draw_gaps(axis: Any, at: np.ndarray, found: Anatomy) -> None:
    """The true gaps, over the range that the model predicts."""
    least = max(1e-3, found.gaps[found.gaps > 0].min(initial=1.0) / 3)  # where gaps of 0 are drawn
    title = "Time from each event to the next"
    if found.quantiles is not None:
        low, middle, high = np.maximum(found.quantiles, least)
        label = "predicted: 80 % of the probability lies in this range"
        axis.vlines(at[:-1], low, high, color="#9db8d2", linewidth=4, label=label)
        axis.plot(at[:-1], middle, "_", color="#1f4e79", label="predicted: median")
        title += ", as the model predicts it and as it was"
    axis.plot(
        at[:-1], np.maximum(found.gaps, least), ".", color="#c8553d", label="true time to the next event"
    )
    axis.set(title=title, ylabel="time to the next event (s)", yscale="log")
    axis.legend(fontsize="small")


def _draw_time_constants(axis: Any, at: np.ndarray, found: Anatomy) -> None:
    """Median and quartiles of each block's time constants."""
    for name, (low, middle, high) in found.time_constants.items():
        (line,) = axis.step(at, middle, where="post", label=name)
        axis.fill_between(at, low, high, step="post", alpha=0.15, color=line.get_color())
    title = "How fast the state forgets: time constant of each block (median and quartiles over its units)"
    axis.set(title=title, ylabel="time constant (s)", yscale="log")
    axis.legend(fontsize="small")


def _draw_retention(axis: Any, at: np.ndarray, found: Anatomy) -> None:
    """What is left of the memory of the first event."""
    for name, heads in found.retention.items():
        for head in range(heads.shape[1]):
            axis.plot(at, heads[:, head], label=f"{name}, head {head}")
    title = "How much of the memory at the first event is left"
    axis.set(title=title, ylabel="share left (1 = all)", ylim=(0, 1.05))
    axis.set_xlabel("time since the first event (s)")
    if found.retention:
        axis.legend(fontsize="small")


def _draw_attention(axis: Any, name: str, weights: np.ndarray) -> None:
    """What each event reads from each event, as an image."""
    image = axis.imshow(weights, cmap="magma", vmin=0, vmax=weights.max())
    axis.set(
        title=f"{name}: which event reads from which",
        xlabel="event that wrote to the memory (number)",
        ylabel="event that reads the memory (number)",
    )
    axis.figure.colorbar(image, ax=axis, label="weight, relative to the largest")
