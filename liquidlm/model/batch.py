"""Prepare: checked inputs ▶ the batch that the blocks read.

Symbols: B batch, T tokens.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import Cache

from ..errors import LiquidError
from ..nn.embedding import TokenVectors
from ..nn.events import Events
from ..nn.padding import PaddingOrder
from ..nn.state import CellState, liquid_layers
from .inputs import Inputs
from .labels import document_starts

if TYPE_CHECKING:
    from .body import LiquidBody


@dataclass(frozen=True)
class PreparedBatch:
    """The tokens of a forward pass as the blocks read them: padding is at the right end of each row.

    Attributes:
        ids: token ids.
        vectors: the embedding stage's vector of each token.
        events: gaps between the tokens, starts of documents, and where tokens are real.
        padding: this order of positions, and the way back to the given one.
        starts: where documents start, in the given order; None if nothing marks them.
        states: the state of each block before the first token.
        cache: takes the states after the last token; None if the caller keeps no state.
        targets: the token that should follow each one, IGNORED where none counts; None without labels.
        gaps: the gap before it, in units of time_scale; None if the model does not learn gaps here.
    """

    ids: Int[Tensor, "b t"]
    vectors: TokenVectors
    events: Events
    padding: PaddingOrder
    starts: Bool[Tensor, "b t"] | None
    states: list[CellState]
    cache: Cache | None
    targets: Int[Tensor, "b t"] | None = None
    gaps: Float[Tensor, "b t"] | None = None

    @property
    def length(self) -> int:
        """T, the number of positions."""
        return self.ids.shape[1]


def prepare(model: "LiquidBody", inputs: Inputs, vectors: TokenVectors, cache: Cache | None) -> PreparedBatch:
    """The batch for the blocks of a model.

    Args:
        vectors: of the inputs' tokens (`LiquidModel.embed`).
        cache: the state to go on from; None: a fresh state that nobody keeps.

    Raises:
        LiquidError: a state of another model or batch size, times that go back or are not finite.
    """
    batch, length = inputs.ids.shape
    padding = PaddingOrder.of(inputs.mask)
    starts = document_starts(inputs.starts, inputs.position_ids, inputs.seq_idx, inputs.ids, padding.real)
    states = first_states(model, cache, batch, vectors.table)
    events = Events.build(
        inputs.times,
        states[0].time,
        length=length,
        time_scale=model.config.time_scale,
        gap_weight=model.config.gap_weight,
        start=starts,
        real=padding.real,
        dtype=states[0].h.dtype,
    )
    return PreparedBatch(
        ids=padding.apply(inputs.ids),
        vectors=replace(vectors, index=padding.apply(vectors.index)),
        events=events.reordered(padding),
        padding=padding,
        starts=starts,
        states=states,
        cache=cache,
    )


def first_states(model: "LiquidBody", cache: Cache | None, batch: int, like: Tensor) -> list[CellState]:
    """The state that each block starts from: the cache's, or a fresh one.

    Args:
        like: the states are on the device of this tensor.

    Raises:
        LiquidError: the cache is of another model or batch size.
    """
    fresh = model.initial_states(batch, like.dtype, like.device)
    if cache is None:
        return fresh
    given = [layer.state for layer in liquid_layers(cache)]
    if len(given) != len(fresh):
        raise LiquidError(
            f"the state has {len(given)} layers, the model {len(fresh)}: give a state of this model"
        )
    pairs = enumerate(zip(given, fresh, strict=True))
    return [new if own is None else own.fitted(new, f"layer {i}") for i, (own, new) in pairs]
