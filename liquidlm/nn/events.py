"""When the tokens of a batch happen: all that a layer needs to know of time, padding and documents."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Float64, Num
from torch import Tensor

from ..errors import LiquidError
from ..runtime.traced import holds
from .padding import PaddingOrder
from .timestamps import elapsed, in_float64

LONGEST = 1e30
"""Longer gaps are taken as this long: everything has decayed, and products with a rate stay finite."""


@dataclass(frozen=True)
class Events:
    """The tokens of a batch as events in time.

    Attributes:
        gap: elapsed time since the event before, over `time_scale`; 0 at a document's start and where padded.
        start: true where a document starts: an infinite gap, nothing passes it.
        real: false where padded; None when every position is real. The layers ask that padding stands at the
            right end: see `reordered`.
        resets: whether a start cuts off anything at all (it does not at the beginning of a fresh state).
        last_time: time of each row's last event so far; −∞ in a row that has had none.
        gap_weight: what a gap of 1 counts for what is remembered, where an event itself counts 1; None: a
            gap counts as it is, and an event nothing.
    """

    gap: Float[Tensor, "b t"]
    start: Bool[Tensor, "b t"]
    real: Bool[Tensor, "b t"] | None
    resets: bool
    last_time: Float64[Tensor, " b"]
    gap_weight: float | None = None

    @property
    def elapsed(self) -> Float[Tensor, "b t"]:
        """Over which a memory leaks."""
        if self.gap_weight is None:
            return self.gap
        elapsed = 1 + self.gap_weight * self.gap
        return elapsed if self.real is None else elapsed * self.real

    @property
    def duration(self) -> Float[Tensor, "b t"]:
        """Internal time of a cell per event: what has elapsed, and one unit for the event itself.

        So tokens at the same time (gap 0) are still integrated, each for its unit.
        """
        duration = self.elapsed + 1
        return duration if self.real is None else duration * self.real

    @property
    def segment(self) -> Float[Tensor, "b t"] | None:
        """Number of the document each token belongs to, 0 for the state's own; None when nothing resets."""
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
        """Events at `timestamps`, or one unit apart (0, 1, 2, …, or on from `last_time`) without them.

        Raises:
            LiquidError: times that decrease, are NaN or infinite (row and position are named); a wrong shape.
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
        """The same events elsewhere: accelerate moves what a block is given by this name."""
        parts = {"gap": self.gap, "start": self.start, "real": self.real, "last_time": self.last_time}
        moved = {n: y.to(device, non_blocking=non_blocking) for n, y in parts.items() if y is not None}
        return replace(self, **moved)

    def part(self, columns: slice) -> "Events":
        """Some of the events, in their order."""
        real = None if self.real is None else self.real[:, columns]
        return replace(self, gap=self.gap[:, columns], start=self.start[:, columns], real=real)

    def reordered(self, padding: PaddingOrder) -> "Events":
        """The same events with padding at the right end."""
        real = None if self.real is None else padding.apply(self.real)
        return replace(self, gap=padding.apply(self.gap), start=padding.apply(self.start), real=real)


def _last_real(
    times: Float64[Tensor, "b t"], real: Bool[Tensor, "b t"] | None, last_time: Float64[Tensor, " b"]
) -> Float64[Tensor, " b"]:
    if real is None:
        return times[:, -1].clone()  # a view would keep every time alive, and the caller's own tensor
    last = (real.cumsum(1) * real).argmax(1)
    return torch.where(real.any(1), times.gather(1, last[:, None])[:, 0], last_time)
