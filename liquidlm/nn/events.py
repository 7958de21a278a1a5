"""The tokens of a batch as events in time: what a layer needs to know of time, padding and documents."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Float64, Num
from torch import Tensor

from ..errors import LiquidError
from ..runtime.traced import holds
from .padding import PaddingOrder
from .timestamps import elapsed, in_float64

LONGEST = 1e30
"""Longer gaps count as this long. Everything has decayed by then, and products with a rate stay finite."""


@dataclass(frozen=True)
class Events:
    """The tokens of a batch as events in time.

    Two durations follow from a gap: `elapsed`, over which a memory leaks, and `duration`, over which a time
    cell integrates.

    Attributes:
        gap: (B, T) the time since the event before, over `time_scale`; 0 where a document starts or padded.
        start: (B, T) true where a document starts: nothing of the past passes.
        real: (B, T) false where padded; None if every position is real. Layers need padding at the right end,
            see `reordered`.
        resets: whether a start cuts off a past; false if all starts are at the beginning of a fresh state.
        last_time: (B,) the time of the last event of each row; −∞ in a row without events.
        gap_weight: None: a gap counts with its length, and an event takes no time. A number: a gap of 1
            counts this much, and each event counts 1.

    Example:
        >>> times, fresh = torch.tensor([[0.0, 2.0, 2.0]]), torch.tensor([-torch.inf], dtype=torch.float64)
        >>> events = Events.build(times, fresh, length=3)
        >>> events.gap, events.duration  # an event itself lasts one unit
        (tensor([[0., 2., 0.]]), tensor([[1., 3., 1.]]))
    """

    gap: Float[Tensor, "b t"]
    start: Bool[Tensor, "b t"]
    real: Bool[Tensor, "b t"] | None
    resets: bool
    last_time: Float64[Tensor, " b"]
    gap_weight: float | None = None

    @property
    def elapsed(self) -> Float[Tensor, "b t"]:
        """(B, T) the time over which a memory leaks: gap, or 1 + gap_weight · gap; 0 where padded."""
        if self.gap_weight is None:
            return self.gap
        elapsed = 1 + self.gap_weight * self.gap
        return elapsed if self.real is None else elapsed * self.real

    @property
    def duration(self) -> Float[Tensor, "b t"]:
        """(B, T) the time over which a cell integrates: `elapsed` + 1; 0 where padded.

        The 1 is for the event itself, so that a token at the same time as the one before (gap 0) still
        counts.
        """
        duration = self.elapsed + 1
        return duration if self.real is None else duration * self.real

    @property
    def segment(self) -> Float[Tensor, "b t"] | None:
        """(B, T) the number of each token's document; 0 for that of the state. None if nothing resets."""
        return self.start.cumsum(1).to(self.gap.dtype) if self.resets else None

    @classmethod
    def build(
        cls,
        timestamps: Num[Tensor, "b t"] | None,
        last_time: Float64[Tensor, " b"],
        *,
        length: int,
        time_scale: float = 1.0,
        gap_weight: float | None = None,
        start: Bool[Tensor, "b t"] | None = None,
        real: Bool[Tensor, "b t"] | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> "Events":
        """Events at `timestamps`.

        Args:
            timestamps: (B, T) non-decreasing times; None: 0, 1, 2, …, or one unit apart after `last_time`.
            last_time: (B,) the time of the last event before; −∞ in a row without one.
            length: T.
            time_scale: the gap that becomes 1.
            gap_weight, real: see the attributes.
            start: (B, T) true where a document starts.
            dtype: the type of the gaps.

        Raises:
            LiquidError: times that decrease, are NaN or infinite (the message names row and position), or a
                wrong shape.
        """
        if timestamps is None:
            first = torch.where(last_time.isneginf(), 0.0, last_time + 1)
            number = torch.arange(length, device=last_time.device) if real is None else real.cumsum(1) - 1
            times = first[:, None] + number
        elif timestamps.shape != (len(last_time), length):
            raise LiquidError(
                f"timestamps must have the shape of the tokens, ({len(last_time)}, {length}),"
                f" not {tuple(timestamps.shape)}"
            )
        else:
            times = in_float64(timestamps, time_scale).to(last_time.device)
        gap = elapsed(times, last_time, time_scale, start, real, dtype=dtype)
        begins = gap.isposinf()
        count = torch.ones_like(begins).cumsum(1) if real is None else real.cumsum(1)
        fresh = last_time.isneginf()[:, None] & (count == 1)
        return cls(
            gap=gap.masked_fill(begins, 0.0).clamp(max=LONGEST),
            start=begins,
            real=real,
            resets=start is not None and holds((begins & ~fresh).any(), True),
            last_time=_last_real(times.detach(), real, last_time),
            gap_weight=gap_weight,
        )

    def to(self, device: torch.device | str | int, non_blocking: bool = False) -> "Events":
        """The same events on another device. accelerate calls this method."""
        parts = {"gap": self.gap, "start": self.start, "real": self.real, "last_time": self.last_time}
        moved = {n: y.to(device, non_blocking=non_blocking) for n, y in parts.items() if y is not None}
        return replace(self, **moved)

    def part(self, columns: slice) -> "Events":
        """The events of the given columns."""
        real = None if self.real is None else self.real[:, columns]
        return replace(self, gap=self.gap[:, columns], start=self.start[:, columns], real=real)

    def reordered(self, padding: PaddingOrder) -> "Events":
        """The same events, with padding at the right end."""
        real = None if self.real is None else padding.apply(self.real)
        return replace(self, gap=padding.apply(self.gap), start=padding.apply(self.start), real=real)


def _last_real(
    times: Float64[Tensor, "b t"], real: Bool[Tensor, "b t"] | None, last_time: Float64[Tensor, " b"]
) -> Float64[Tensor, " b"]:
    if real is None:
        return times[:, -1].clone()  # a view would keep the whole tensor in memory
    last = (real.cumsum(1) * real).argmax(1)
    return torch.where(real.any(1), times.gather(1, last[:, None])[:, 0], last_time)
