"""Times of events ▶ gaps: when each token happens, and how long after the one before it."""

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor
from transformers.utils import logging

from ..errors import LiquidError
from ..runtime.traced import fails, holds
from .arguments import check_positive, check_whole

KINDS = ("uniform", "poisson", "bursty")

# The bursty process, in units of the mean gap.
BURST_LENGTH = 8  # mean number of events in a burst
SIMULTANEOUS = 0.5  # share of a burst's events that come at the very time of the one before
NEAR = 0.01  # mean gap of the burst's other events
TAIL = 1.5  # Pareto exponent of the pauses between bursts: finite mean, infinite variance


def generate_timestamps(
    batch_size: int, seq_length: int, kind: str = "uniform", *, rate: float = 1.0, seed: int | None = None
) -> Float64[Tensor, "b t"]:
    """Non-decreasing times of `seq_length` events, one sequence per row; every row begins at time 0.

    The mean gap between events is 1/rate in each kind:

    - ``"uniform"``: t_i = i / rate, that is 0, 1, 2, … by default;
    - ``"poisson"``: a Poisson process, gaps ~ Exponential(rate);
    - ``"bursty"``: with probability 1/8 an event opens a new burst after a long pause ~ Pareto(3/2);
      otherwise it belongs to the burst of the event before, half of the time at the very same time
      (gap 0), half of the time after a gap ~ Exponential of mean 0.01/rate.

    Args:
        rate: events per unit of time, positive and finite.
        seed: of the rows' random gaps; None draws a fresh one. torch's global generator is not touched.

    Returns:
        float64 times (B, T), on the CPU.

    Raises:
        LiquidError: a size below 1, an unknown kind, or a rate that is not positive and finite.
    """
    check_whole(batch_size=batch_size, seq_length=seq_length)
    if kind not in KINDS:
        raise LiquidError(f"unknown kind of timestamps {kind!r}; choose one of {', '.join(KINDS)}")
    check_positive(rate=rate)

    if kind == "uniform":
        return (torch.arange(seq_length, dtype=torch.float64) / rate).repeat(batch_size, 1)
    generator = torch.Generator()
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed(seed)
    gaps = torch.empty(batch_size, seq_length - 1, dtype=torch.float64).exponential_(generator=generator)
    if kind == "bursty":
        gaps = _bursty(gaps, generator)
    return torch.cat([torch.zeros(batch_size, 1, dtype=torch.float64), gaps.cumsum(1) / rate], dim=1)


def _bursty(exponential: Float64[Tensor, "b t"], generator: torch.Generator) -> Float64[Tensor, "b t"]:
    """Gaps of the bursty process with mean 1, from gaps ~ Exponential(1)."""
    opens, same, pause = torch.rand(3, *exponential.shape, dtype=torch.float64, generator=generator)
    near = torch.where(same < SIMULTANEOUS, 0.0, NEAR * exponential)
    # Pareto's quantile is shortest·(1−u)^(−1/TAIL), its mean shortest·TAIL/(TAIL−1); all gaps' mean is 1.
    near_mean = (1 - 1 / BURST_LENGTH) * (1 - SIMULTANEOUS) * NEAR
    shortest = (1 - near_mean) * BURST_LENGTH * (TAIL - 1) / TAIL
    return torch.where(opens < 1 / BURST_LENGTH, shortest * (1 - pause) ** (-1 / TAIL), near)


def in_float64(timestamps: Any, time_scale: float = 1.0) -> Float64[Tensor, "*shape"]:
    """Times as every part computes with them: late ones (seconds since 1970, say) keep their small gaps.

    float32 times of today are 128 s apart: what was lost before they came here is lost, which the log says.

    Args:
        timestamps: a tensor of any real type, an array, or nested lists.
        time_scale: the gap that should not be lost.

    Raises:
        LiquidError: what is no time.
    """
    given = timestamps
    try:
        if not isinstance(given, Tensor):
            given = torch.as_tensor(np.asarray(given))
    except (TypeError, ValueError) as error:
        raise LiquidError(f"times must be a tensor of numbers: {error}") from error
    if given.is_complex() or given.dtype == torch.bool:
        raise LiquidError(f"times must be real numbers, not {given.dtype}")
    times = given.to(torch.float64)
    coarse = given.is_floating_point() and given.dtype != torch.float64 and given.numel() > 0
    if coarse and holds(times.detach().abs().max() * torch.finfo(given.dtype).eps > time_scale, False):
        logging.get_logger(__name__).warning_once(
            f"times in {given.dtype} are too coarse where they are so late: gaps are lost; give them in"
            " torch.float64, or as integers"
        )
    return times


def elapsed(
    timestamps: Tensor,
    last_time: Tensor | None = None,
    time_scale: float = 1.0,
    starts: Tensor | None = None,
    mask: Tensor | None = None,
    *,
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "b t"]:
    """Gaps Δ (B, T) since the event before, of the same row and the same document.

        Δ_i = (t_i − t_prev(i)) / time_scale,    prev(i) = the last real token before i

    and, exactly,  Δ_i = +∞  where a document starts (nothing passes it),  Δ_i = 0  where padded.

    Differences are taken in float64: late times (seconds since 1970, say) keep their small gaps. A finite
    gap stays finite in `dtype`, however long. Finite gaps are differentiable in `timestamps` and `last_time`.

    Args:
        timestamps: (B, T) times of any real dtype, non-decreasing within a document.
        last_time: (B,) time of the last event before this call; −∞ in a row that has had none.
            None: no row has had any, so that each row's first token starts a document.
        time_scale: the gap that becomes 1; positive and finite.
        starts: (B, T) true where a document starts; a mark on a padded position says nothing.
        mask: (B, T) true (or 1) where a token is real; the time of a padded position may be anything.
        dtype: of the result.

    Raises:
        LiquidError: times that decrease within a document, NaN or infinite times (row and position are
            named), shapes that do not match, or a time_scale that is not positive and finite.
    """
    _check_arguments(timestamps, last_time, time_scale, starts, mask)
    rows, length = timestamps.shape
    real = torch.ones_like(timestamps, dtype=torch.bool) if mask is None else mask.bool()
    times = in_float64(timestamps, time_scale)
    past = times.new_full((rows,), -math.inf) if last_time is None else last_time.to(times)

    # In [past, t_0, t_1, …] token i is column i+1; a running maximum finds the last real column before it.
    columns = real * torch.arange(1, length + 1, device=times.device)
    previous = torch.nn.functional.pad(columns, (1, 0)).cummax(dim=1).values[:, :-1]
    before = torch.cat([past[:, None], times], dim=1).gather(1, previous)
    first = before.isneginf() if starts is None else before.isneginf() | starts.bool()

    gaps = times - before
    wrong = real & ~(times.isfinite() & (first | (gaps >= 0)))
    if fails(wrong.any(), "times must be finite and must not decrease"):
        row, position = wrong.nonzero()[0].tolist()
        raise _bad_time(row, position, times[row, position].item(), before[row, position].item())
    gaps = (gaps / time_scale).clamp(max=torch.finfo(dtype).max)  # +∞ is kept for documents' starts
    return gaps.masked_fill(first, math.inf).masked_fill(~real, 0.0).to(dtype)


def next_gaps(
    timestamps: Tensor,
    following: Tensor,
    counted: Tensor,
    time_scale: float = 1.0,
    *,
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "b t"]:
    """(t_next − t) / time_scale where `counted`, else 0: what a time head is to foretell.

    Raises:
        LiquidError: a time that counts is not finite, or before the one it follows (row and position named).
    """
    times, later = in_float64(timestamps, time_scale), in_float64(following, time_scale)
    gaps = torch.where(counted, later - times, 0.0)
    wrong = ~(gaps.isfinite() & (gaps >= 0))
    if fails(wrong.any(), "times must be finite and must not decrease"):
        row, position = wrong.nonzero()[0].tolist()
        raise LiquidError(
            f"row {row}, position {position} is at {times[row, position].item()!r}, what follows at"
            f" {later[row, position].item()!r}; times must be finite and must not decrease"
        )
    return (gaps / time_scale).clamp(max=1e30).to(dtype)


def _check_arguments(
    timestamps: Tensor,
    last_time: Tensor | None,
    time_scale: float,
    starts: Tensor | None,
    mask: Tensor | None,
) -> None:
    shape = tuple(timestamps.shape)
    if len(shape) != 2:
        raise LiquidError(f"timestamps must be (batch, tokens), one time per token, not of shape {shape}")
    for name, tensor, wanted in (
        ("last_time", last_time, shape[:1]),
        ("starts", starts, shape),
        ("mask", mask, shape),
    ):
        if tensor is not None and tuple(tensor.shape) != wanted:
            raise LiquidError(
                f"{name} must have shape {wanted} to go with timestamps {shape}, not {tuple(tensor.shape)}"
            )
    if not 0 < time_scale < math.inf:
        raise LiquidError(f"time_scale must be positive and finite, not {time_scale}")


def _bad_time(row: int, position: int, time: float, before: float) -> LiquidError:
    if not math.isfinite(time):
        return LiquidError(f"timestamps: row {row}, position {position} is {time}; every time must be finite")
    return LiquidError(
        f"timestamps: row {row}, position {position} is {time!r}, after {before!r}; times must not decrease"
        " within a document: sort the events, or mark where a new document starts"
    )
