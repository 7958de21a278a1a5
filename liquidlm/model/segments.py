"""Run: a prepared batch through all blocks, one segment of time after the other.

A segment goes through all blocks before the next one starts, so the data that is in use stays in cache. The
states pass from segment to segment, and gradients pass with them.

Symbols: B batch, T tokens, H hidden.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int32
from torch import Tensor

from ..nn.state import CellState, liquid_layers
from .batch import PreparedBatch

if TYPE_CHECKING:
    from .body import LiquidBody

SEGMENT = 4096
"""Tokens of all rows together that go through the blocks at a time; on a GPU 16 times as many."""

Hidden = list[Float[Tensor, "b t h"]]
"""The input of every block, and the output of the last block."""
Found = Int32[Tensor, "b t levels 16"] | None
"""What a `CountMemory` has found after each token; None without one."""


def run(
    model: "LiquidBody",
    batch: PreparedBatch,
    *,
    first_kept: int = 0,
    all_hidden: bool = False,
    each: Callable[[slice, Hidden, Found], None] | None = None,
) -> tuple[Hidden, Found]:
    """All blocks over the batch. The cache of the batch, if there is one, gets the states after it.

    Args:
        first_kept: hidden states are returned from this position on.
        all_hidden: return the hidden states of every block, not only those that `LiquidBody.features` takes.
        each: called after every segment, with its positions, its hidden states and what was counted.

    Returns:
        Hidden states in the order of positions that the caller gave; empty if none is kept. And what was
        counted of the contexts that end at these positions.
    """
    states, kept, counted = batch.states, [], []
    for part in segments(batch.ids.shape[0], batch.length, batch.ids.device):
        hidden, found, states = run_segment(model, batch, part, states)
        if each is not None:
            each(part, hidden, found)
        if part.stop > first_kept:
            wanted, cut = hidden if all_hidden else model.last(hidden), max(0, first_kept - part.start)
            kept.append([x[:, cut:] if cut else x for x in wanted])
            counted.append(None if found is None else found[:, cut:])
    if batch.cache is not None:
        for layer, state in zip(liquid_layers(batch.cache), states, strict=True):
            layer.store(state, batch.length)
    # One segment is returned as it is and not as a copy: the caller can ask for its gradient.
    hidden = [parts[0] if len(parts) == 1 else torch.cat(parts, 1) for parts in zip(*kept, strict=True)]
    found = None
    if model.counts is not None and counted:
        found = batch.padding.undo(torch.cat(counted, 1))
    return [batch.padding.undo(x) for x in hidden], found


def run_segment(
    model: "LiquidBody", batch: PreparedBatch, part: slice, states: list[CellState]
) -> tuple[Hidden, Found, list[CellState]]:
    """The hidden states of one segment, what was counted of its contexts, and the states after it."""
    x, events = batch.vectors.x(part), batch.events.part(part)
    past, counts, context, found = states[0].past_ids, states[0].counts, states[0].context, None
    if model.ngrams is not None and past is not None:
        more, past = model.ngrams(batch.ids[:, part], events, past)
        x = x + more
    hidden, states = model.blocks(x, model.clocks(events), states, model.time_norm is not None)
    if model.counts is not None and context is not None:
        found, context, counts = model.counts.read(
            batch.ids[:, part], events.start, events.real, counts, context
        )
    states[0] = states[0]._replace(past_ids=past, counts=counts, context=context)
    return hidden, found, states


def segments(batch: int, length: int, device: torch.device) -> Iterator[slice]:
    """Slices of 0…length, each of at most SEGMENT tokens in all rows together (on a GPU 16 times as many)."""
    tokens = SEGMENT if device.type == "cpu" else 16 * SEGMENT
    size = max(1, tokens // batch)
    return (slice(first, min(first + size, length)) for first in range(0, length, size))
