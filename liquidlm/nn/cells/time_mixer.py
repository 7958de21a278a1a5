"""The mixer over time without a memory: a short convolution, then the liquid time cell.

Symbols: B batch, T events, H hidden.
"""

import torch
from jaxtyping import Bool, Float, Num
from torch import Tensor, nn

from ...errors import LiquidError
from ..arguments import check_integers, check_positive
from ..events import Events
from ..padding import PaddingOrder
from ..state import CellState, fresh_time
from .conv import ShortConvolution
from .time_cell import ImprovedLiquidTimeCell


class TimeMixer(nn.Module):
    """Events at their times ▶ a state after each: x ▶ u = conv(x, Δ) ▶ e = context(u) ▶ time cell ▶ h.

        u_i = Σ_j w_j ⊙ x_{i−W+1+j} + g ⊙ log(1 + Δ_i)         `ShortConvolution`
        h_i = cell(e_i, h_{i−1}) over the time Δ_i + 1          `ImprovedLiquidTimeCell`

    Δ_i is the gap before event i, over time_scale. The 1 is the event's own duration: events at the same time
    (Δ = 0) all count. Here the context e is u itself; other mixers override `context`. A document's start
    resets the state. A padded position does not change it.

        >>> mixer = TimeMixer(8, dropout_rate=0.0)
        >>> x, times = torch.randn(1, 5, 8), torch.tensor([[0.0, 0.1, 3.0, 3.0, 50.0]])
        >>> h, _ = mixer(x, times)
        >>> h.shape
        torch.Size([1, 5, 8])
        >>> _, _, state = mixer(x[:, :2], times[:, :2], return_state=True)  # the same in two calls
        >>> rest, _ = mixer(x[:, 2:], times[:, 2:], state)
        >>> torch.allclose(rest, h[:, 2:], atol=1e-5)
        True

    Args:
        hidden_size: H, width of x and h.
        dropout_rate: dropout of the cell's context encoder, in [0, 1).
        conv_width: number of events that the short convolution sees.
        time_scale: the gap that counts as 1, in the unit of the timestamps. Their median is a good choice.
            `forward` uses it; within a model the gaps come scaled, by `LiquidConfig.time_scale`.

    Raises:
        LiquidError: sizes, a rate or a scale out of range.
    """

    def __init__(
        self,
        hidden_size: int,
        dropout_rate: float = 0.1,
        *,
        conv_width: int = 4,
        time_scale: float = 1.0,
    ):
        super().__init__()
        check_integers(hidden_size=hidden_size, conv_width=conv_width)
        check_positive(time_scale=time_scale)
        self.hidden_size = hidden_size
        self.time_scale = time_scale
        self.conv = ShortConvolution(hidden_size, conv_width)
        self.cell = self._cell(dropout_rate)

    def _cell(self, dropout_rate: float) -> ImprovedLiquidTimeCell:
        return ImprovedLiquidTimeCell(self.hidden_size, dropout_rate)

    def forward(
        self,
        x: Float[Tensor, "b t h"],
        timestamps: Num[Tensor, "b t"] | None = None,
        h: Float[Tensor, "b h"] | CellState | None = None,
        attention_mask: Num[Tensor, "b t"] | Bool[Tensor, "b t"] | None = None,
        *,
        starts: Bool[Tensor, "b t"] | None = None,
        return_state: bool = False,
        need_weights: bool = False,
    ) -> tuple:
        """The cell's state after every event.

        Args:
            x: (B, T, H) inputs of the events.
            timestamps: (B, T) times, non-decreasing within a row; default: 0, 1, 2, …
            h: None for a fresh state; the state that an earlier call returned; or (B, H), the cell's state
                one time_scale before the first event (one unit before it without timestamps).
            attention_mask: (B, T), 0 where padded, on either side. Padding leaves the state as it is, and its
                result is 0.
            starts: (B, T) true where another document starts. Nothing passes from the document before it.
            return_state: also return the state after the last event.
            need_weights: also return the exact weight of every value in every read, for short T.

        Returns:
            (h, weights), or (h, weights, state) with `return_state`. h is (B, T, H). The weights are
            (B, heads, T, T), or None if they were not asked for or if the mixer has no memory.

        Raises:
            LiquidError: times that decrease or are not finite; shapes that do not match.
        """
        self._check_shapes(x, timestamps=timestamps, attention_mask=attention_mask, starts=starts)
        padding = PaddingOrder.of(attention_mask)
        state = self._state(x, None if timestamps is None else padding.apply(timestamps)[:, 0], h)
        events = Events.build(
            timestamps,
            state.time,
            length=x.shape[1],
            time_scale=self.time_scale,
            start=starts,
            real=padding.real,
            dtype=state.h.dtype,
        )
        x, events = padding.apply(x), events.reordered(padding)
        out, new = self.mix(x, events, state)
        out, weights = padding.undo(out), self.weights(x, events, state) if need_weights else None
        if weights is not None:
            weights = padding.undo(padding.undo(weights, 2), 3)
        return (out, weights, new) if return_state else (out, weights)

    def mix(
        self, x: Float[Tensor, "b t h"], events: Events, state: CellState
    ) -> tuple[Float[Tensor, "b t h"], CellState]:
        """The cell's state after every event, and the mixer's state after the last one.

        A model calls it with events that are prepared once for all blocks.

        Args:
            x: inputs of the events.
            events: gaps, starts and padding; padding at the right end.
            state: before the first event.
        """
        u, tail = self.conv(x, events, state.conv)
        context, memory = self.context(u, events, state)
        start = events.start if events.resets else None
        h = self.cell.scan(context, events.duration, state.h, start)
        # A copy: a view would keep every h in memory.
        return h, CellState(h[:, -1].clone(), tail, memory, events.last_time)

    def context(
        self, u: Float[Tensor, "b t h"], events: Events, state: CellState
    ) -> tuple[Float[Tensor, "b t h"], Float[Tensor, "b n k p"] | None]:
        """The input of the time cell, and the memory after the events: here u itself, and no memory."""
        return u, None

    def weights(
        self, x: Float[Tensor, "b t h"], events: Events, state: CellState
    ) -> Float[Tensor, "b n t t"] | None:
        """The weight of every value in every read of the memory; None: this mixer has no memory."""
        return None

    def initial_state(self, batch: int, dtype: torch.dtype, device: torch.device) -> CellState:
        """The state before the first event: zeros, in at least float32."""
        wide = torch.promote_types(dtype, torch.float32)
        return CellState(
            h=torch.zeros(batch, self.hidden_size, dtype=wide, device=device),
            conv=torch.zeros(batch, self.conv.width - 1, self.hidden_size, dtype=wide, device=device),
            memory=None,
            time=fresh_time(batch, device),
        )

    def _check_shapes(self, x: Tensor, **per_event: Tensor | None) -> None:
        if x.dim() != 3 or x.shape[1] == 0 or x.shape[2] != self.hidden_size:
            raise LiquidError(
                f"x must be (batch, events, {self.hidden_size}) with at least one event, not {tuple(x.shape)}"
            )
        events = tuple(x.shape[:2])
        for name, given in per_event.items():
            if given is not None and given.shape != events:
                raise LiquidError(f"{name} must have one entry per event, {events}, not {tuple(given.shape)}")

    def _state(self, x: Tensor, first: Tensor | None, h: Tensor | CellState | None) -> CellState:
        fresh = self.initial_state(len(x), x.dtype, x.device)
        if h is None:
            return fresh
        if isinstance(h, CellState):
            return h.fitted(fresh, "the mixer")
        before = torch.full_like(fresh.time, -1.0)
        if first is not None:
            before = first.detach().to(fresh.time) - self.time_scale
        return fresh._replace(h=h, time=before).fitted(fresh, "the mixer")
