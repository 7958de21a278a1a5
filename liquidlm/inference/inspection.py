"""What a model does at each event of a text with times, as figures: `liquidlm inspect` draws them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64, Int, Int64
from torch import Tensor

from ..errors import LiquidError
from ..model.block import LiquidBlock, products_in
from ..model.language_model import LiquidLanguageModel
from ..model.segments import SEGMENT
from ..model.step import LiquidStep
from ..nn.cells import AsyncLiquidCell, TimeMixer
from ..nn.cells.decay import time_constant
from ..nn.events import Events
from ..nn.state import CellState, LiquidCache
from ..ops import delta_memory
from ..text.corpus import Document
from ..text.tokenizer import LEDTokenizerWrapper
from .generate import read_output
from .token_costs import LN2, TokenCosts, read_costs

LEVELS = (0.1, 0.5, 0.9)
"""The quantiles of the predicted gap that the plot shows."""
LIMIT = 16 * SEGMENT
"""Tokens that are examined at most."""
WORD = re.compile(rb"\s*\S*")
"""A word, and the white space before it."""


@dataclass
class Anatomy:
    """What a model does at each of e events. Times are in seconds.

    Attributes:
        first: number of the first of these events in the document, from 0.
        times: of the events.
        texts: of the events.
        words: of each event: its words, with the white space before them, and the bits that each costs.
        text_bits: Σ −log₂ p over the tokens of each event, given all tokens before.
        gap_bits: of the gap before each event: −log₂ of the probability of a gap at least as short or as
            long; NaN without a gap or a time head.
        gaps: from each event to the next, for all but the last.
        quantiles: LEVELS of the gap to the next event, as the model predicts it at the event's last token;
            None without a time head.
        time_constants: for each block, quartiles over units and over the event's tokens.
        retention: for each block with a memory, and each of its n heads: the share of the memory of the first
            event that is left at each event.
        attention: for each block with a memory: |weight| with which each event (rows) reads what each event
            (columns) wrote, summed over tokens and heads, relative to the largest.
    """

    first: int
    times: Float64[np.ndarray, " e"]
    texts: list[str]
    words: list[list[tuple[str, float]]]
    text_bits: Float64[np.ndarray, " e"]
    gap_bits: Float64[np.ndarray, " e"]
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
    if len(texts) - first < 2:
        raise LiquidError(f"{document.source} has {len(texts)} events: fewer than two from number {first} on")
    runs = tokenizer.encode_all(texts)
    number = np.repeat(np.arange(len(texts)), [len(run) for run in runs])
    number = np.concatenate([[0], number])  # `<s>` is at the first event's time
    begin, end = (int(at) for at in np.searchsorted(number, (first, min(first + count, len(texts)))))
    of_event = number[begin:end] - first
    parts = list(_whole_events(of_event))
    if end - begin > LIMIT or any(part.stop - part.start > SEGMENT for part in parts):
        raise LiquidError(
            f"{count} events from number {first} on have over {LIMIT:,} tokens, or one has over {SEGMENT:,}:"
            " choose fewer events, or others"
        )
    tokens = np.concatenate([[tokenizer.bos_token_id], *runs])[:end].astype(np.int64)
    clock = np.array([time for _, time in document.marks], np.float64)
    ids = torch.from_numpy(tokens)[None].to(model.device)
    times = torch.from_numpy(clock[number[:end]])[None].to(model.device)
    state, before = model.new_state(), max(0, begin - 1)
    if before:
        read_output(model, ids[:, :before], state, times[:, :before])
    clocks = None if model.time_head is None else clock[number[before:end]]
    costs = read_costs(LiquidStep(model), tokens[before:], clocks, state.copy())
    if begin:
        read_output(model, ids[:, before:begin], state, times[:, before:begin])
    of_costs = of_event[len(of_event) - len(costs.nats) :]  # `<s>` costs nothing
    every = clock[first : first + count]
    found = _surprises(tokenizer, tokens[len(tokens) - len(costs.nats) :], of_costs, costs, first, every)
    found.texts = [text.strip() for text in texts[first : first + count]]
    if model.time_head is None:
        found.gap_bits[:] = np.nan
    _examine_parts(model, ids, times, begin, of_event, parts, state, found)
    return found


def _whole_events(of_event: Int64[np.ndarray, " t"]) -> Iterator[slice]:
    """Slices of whole events with at most SEGMENT tokens, as far as each event has no more."""
    ends = [*(np.flatnonzero(np.diff(of_event)) + 1).tolist(), len(of_event)]
    begin = 0
    for end, following in zip(ends, [*ends[1:], None], strict=True):
        if following is None or following - begin > SEGMENT:
            yield slice(begin, end)
            begin = end


def _surprises(
    tokenizer: LEDTokenizerWrapper,
    tokens: Int64[np.ndarray, " n"],
    of_event: Int64[np.ndarray, " n"],
    costs: TokenCosts,
    first: int,
    times: Float64[np.ndarray, " e"],
) -> Anatomy:
    """What the tokens, words and gaps of the events cost."""
    bits, count = costs.nats / LN2, len(times)
    words, gap_bits = [], np.full(count, np.nan)
    for event in range(count):
        begin, end = np.searchsorted(of_event, (event, event + 1)).tolist()
        pieces = [tokenizer.token_bytes(token) for token in tokens[begin:end].tolist()]
        words.append(_words(pieces, bits[begin:end].tolist()))
        if first + event > 0:
            gap_bits[event] = costs.tail[begin]
    text_bits = np.bincount(of_event, bits, minlength=count)
    return Anatomy(first, times, [], words, text_bits, gap_bits, np.diff(times))


def _words(pieces: list[bytes], bits: list[float]) -> list[tuple[str, float]]:
    """The words of a text and their bits. A token belongs to the word in which it ends."""
    text = b"".join(pieces)
    ends = [found.end() for found in WORD.finditer(text) if found.group()]
    sums = np.zeros(len(ends))
    np.add.at(sums, np.searchsorted(ends, np.cumsum([len(piece) for piece in pieces])), bits)
    begins = [0, *ends[:-1]]
    return [
        (text[a:b].decode("utf-8", "replace"), bit)
        for a, b, bit in zip(begins, ends, sums.tolist(), strict=True)
    ]


def _examine_parts(
    model: LiquidLanguageModel,
    ids: Int[Tensor, "1 all"],
    times: Float64[Tensor, "1 all"],
    begin: int,
    of_event: Int64[np.ndarray, " t"],
    parts: list[slice],
    state: LiquidCache,
    found: Anatomy,
) -> None:
    """Add what is predicted, and what the blocks do, to `found`.

    `of_event` and `parts` are of the tokens from `begin` on, and `state` is that before them.
    """
    last = np.flatnonzero(np.diff(of_event, append=of_event[-1] + 1))[:-1]  # tokens before a gap
    scale, count, quantiles = model.config.time_scale, len(found.times), []
    blocks = [
        _BlockFigures(f"block {number}", cast(LiquidBlock, block), scale, count)
        for number, block in enumerate(model.blocks)
    ]
    for part in parts:
        given = slice(begin + part.start, begin + part.stop)
        output, seen = _seen(model, ids[:, given], times[:, given], state)
        final = last[(last >= part.start) & (last < part.stop)]
        if model.time_head is not None and final.size:
            gap = model.next_gap(output.features[0, final - part.start], ids[0, begin + final + 1])
            quantiles.append(np.stack([gap.quantile(each).double().cpu().numpy() for each in LEVELS]))
        for block, inputs in zip(blocks, seen, strict=True):
            with products_in(inputs[0].dtype, inputs[0].device):
                block.read(*inputs, of_event[part])
    if quantiles:
        found.quantiles = scale * np.concatenate(quantiles, 1)
    for block in blocks:
        block.put(found)


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


class _BlockFigures:
    """Collects what a block does at each of `count` events, which come in parts of whole events."""

    def __init__(self, name: str, block: LiquidBlock, time_scale: float, count: int):
        self.name, self.block, self.time_scale, self.count = name, block, time_scale, count
        self.mixer = cast(TimeMixer, block.mixer)
        self.constants: list[np.ndarray] = []
        self.kept: list[Tensor] = []
        self.weights: list[Tensor] = []
        self.memory: Tensor | None = None

    def read(self, x: Float[Tensor, "1 t h"], events: Events, state: CellState, of_event: np.ndarray) -> None:
        """Add the next events: the block's input, and its state before them."""
        u = cast(Any, self.block).mixer_norm(x)
        c = self.mixer.conv(u, events, state.conv)[0]
        context, _ = self.mixer.context(c, events, state)
        constants = _time_constants(self.mixer, context, events, state, self.time_scale).cpu().numpy()
        starts = np.flatnonzero(np.diff(of_event, prepend=-1))
        for tokens in np.split(constants, starts[1:]):
            self.constants.append(np.quantile(tokens, (0.25, 0.5, 0.75)))
        if isinstance(self.mixer, AsyncLiquidCell):
            self._read_memory(self.mixer, c, events, of_event, starts)

    def _read_memory(
        self,
        mixer: AsyncLiquidCell,
        c: Float[Tensor, "1 t h"],
        events: Events,
        of_event: np.ndarray,
        starts: np.ndarray,
    ) -> None:
        q, k, _, fading, write = mixer.reads(c, events)
        decay = fading[0, :: mixer.num_writes].double()  # an event's first write is after its gap
        decay = decay.masked_fill(torch.from_numpy(of_event == 0).to(decay.device)[:, None], 0.0)
        left = decay.cumsum(0) + (self.kept[-1] if self.kept else 0.0)
        ends = [*(starts[1:] - 1), len(of_event) - 1]
        self.kept.extend(left[ends])
        # The reads are linear in the values: with the one-hot number of its event in place of each value, a
        # read is the weight of each event in it.
        wide = fading.dtype
        member = F.one_hot(torch.from_numpy(of_event), self.count).to(fading.device, wide)
        values = member.repeat_interleave(mixer.num_writes, 0)[None, :, None].expand(-1, -1, q.shape[2], -1)
        if self.memory is None:
            self.memory = fading.new_zeros(1, q.shape[2], k.shape[3], self.count)
        q, k = q.to(wide), k.to(wide)
        reads, self.memory = delta_memory(q, k, values, fading, write, self.memory, mixer.chunk_size)
        by_token = reads[0, mixer.num_writes - 1 :: mixer.num_writes].abs().sum(1)
        self.weights.extend(tokens.sum(0) for tokens in by_token.tensor_split(starts[1:].tolist()))

    def put(self, found: Anatomy) -> None:
        """Put the figures into `found`."""
        found.time_constants[self.name] = np.stack(self.constants, 1)
        if self.kept:
            found.retention[self.name] = torch.stack(self.kept).exp().clamp(max=1.0).cpu().numpy()
            by_event = torch.stack(self.weights)
            found.attention[self.name] = (by_event / by_event.max().clamp(min=1e-30)).double().cpu().numpy()
