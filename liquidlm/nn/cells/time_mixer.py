"""The mixer over time without a memory of its own: short convolution, then the liquid time cell."""

import torch
from jaxtyping import Bool, Float, Num
from torch import Tensor, nn

from ...errors import LiquidError
from ..arguments import check_positive, check_whole
from ..events import Events
from ..padding import PaddingOrder
from ..state import CellState, fresh_time
from .conv import ShortConvolution
from .time_cell import ImprovedLiquidTimeCell


class TimeMixer(nn.Module):
    """x ▶ u = conv(x), log(1+Δ) ▶ context (here u itself) ▶ ImprovedLiquidTimeCell over the elapsed time ▶ h.

    A document's start resets the state; a padded position leaves it as it is. An event lasts one unit of
    the cell's time beside the gap before it, so that tokens at one time (Δ = 0) all count.

    Args:
        time_scale: the gap, in the unit of the timestamps, that counts as 1; their median is a good choice.
        conv_width: how many events the short convolution sees.
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
        check_whole(hidden_size=hidden_size, conv_width=conv_width)
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
        """Mix events x at their times.

        Args:
            x: inputs of the events.
            timestamps: non-decreasing times, (B, T), rows independent; 0, 1, 2, … when absent.
            h: None for a fresh state; (B, H), the cell's state one time_scale before the first event (one
                unit before it where there are no timestamps); or the state that an earlier call returned.
            attention_mask: 0 where padded, on either side: the identity on the state, 0 in the result.
            starts: true where another document starts; nothing passes from the one before.
            need_weights: also the exact weight of every value in every read, for short T.

        Returns:
            (h, attn_weights), with the new state third if `return_state`. h is (B, T, H); attn_weights is
            (B, heads, T, T), or None if not asked for or if there is no memory to read.

        Raises:
            LiquidError: times that decrease, are NaN or infinite; shapes that do not match.
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
        """The same over events prepared once for all layers: (h, new state)."""
        u, tail = self.conv(x, events, state.conv)
        context, memory = self.context(u, events, state)
        start = events.start if events.resets else None
        h = self.cell.scan(context, events.duration, state.h, start)
        # A copy: a view would keep every h alive, and the state is of constant size.
        return h, CellState(h[:, -1].clone(), tail, memory, events.last_time)

    def context(
        self, u: Float[Tensor, "b t h"], events: Events, state: CellState
    ) -> tuple[Float[Tensor, "b t h"], Float[Tensor, "b n k p"] | None]:
        """What drives the time cell, and the new memory: here u itself, and none."""
        return u, None

    def weights(
        self, x: Float[Tensor, "b t h"], events: Events, state: CellState
    ) -> Float[Tensor, "b n t t"] | None:
        """The weights of the memory's reads; here there is no memory."""
        return None

    def initial_state(self, batch: int, dtype: torch.dtype, device: torch.device) -> CellState:
        """The state before the first event: all zero, at least float32."""
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
