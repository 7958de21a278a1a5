"""Run: a prepared batch through all blocks, one segment of time after the other.

A segment goes through all blocks before the next one starts, so the data that is in use stays in cache. The
states pass from segment to segment, and gradients pass with them.

Symbols: B batch, T tokens, H hidden.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from ..nn.state import CellState, liquid_layers
from .batch import PreparedBatch

if TYPE_CHECKING:
    from .body import LiquidBody

SEGMENT = 4096
"""Tokens of all rows together that go through the blocks at a time; on a GPU 16 times as many."""

Hidden = list[Float[Tensor, "b t h"]]
"""The input of every block, and the output of the last block."""


def run(
    model: "LiquidBody",
    batch: PreparedBatch,
    *,
    first_kept: int = 0,
    all_hidden: bool = False,
    each: Callable[[slice, Hidden], None] | None = None,
) -> Hidden:
    """All blocks over the batch. The cache of the batch, if there is one, gets the states after it.

    Args:
        first_kept: hidden states are returned from this position on.
        all_hidden: return the hidden states of every block, not only those that `LiquidBody.features` takes.
        each: called after every segment, with its positions and its hidden states.

    Returns:
        Hidden states in the order of positions that the caller gave; empty if none is kept.
    """
    states, kept = batch.states, []
    for part in segments(batch.ids.shape[0], batch.length, batch.ids.device):
        hidden, states = run_segment(model, batch, part, states)
        if each is not None:
            each(part, hidden)
        if part.stop > first_kept:
            wanted, cut = hidden if all_hidden else model.last(hidden), max(0, first_kept - part.start)
            kept.append([x[:, cut:] if cut else x for x in wanted])
    if batch.cache is not None:
        for layer, state in zip(liquid_layers(batch.cache), states, strict=True):
            layer.store(state, batch.length)
    # One segment is returned as it is and not as a copy: the caller can ask for its gradient.
    hidden = [parts[0] if len(parts) == 1 else torch.cat(parts, 1) for parts in zip(*kept, strict=True)]
    return [batch.padding.undo(x) for x in hidden]


def run_segment(
    model: "LiquidBody", batch: PreparedBatch, part: slice, states: list[CellState]
) -> tuple[Hidden, list[CellState]]:
    """The hidden states of one segment, and the states after it."""
    x, events = batch.vectors.x(part), batch.events.part(part)
    past = states[0].past_ids
    if model.ngrams is not None and past is not None:
        more, past = model.ngrams(batch.ids[:, part], events, past)
        x = x + more
    hidden, states = model.blocks(x, model.clocks(events), states, model.time_norm is not None)
    states[0] = states[0]._replace(past_ids=past)
    return hidden, states


def segments(batch: int, length: int, device: torch.device) -> Iterator[slice]:
    """Slices of 0…length, each of at most SEGMENT tokens in all rows together (on a GPU 16 times as many)."""
    tokens = SEGMENT if device.type == "cpu" else 16 * SEGMENT
    size = max(1, tokens // batch)
    return (slice(first, min(first + size, length)) for first in range(0, length, size))
