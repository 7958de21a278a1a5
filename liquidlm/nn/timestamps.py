"""Times ▶ gaps: when each token happens, and how long after the token before it.

`elapsed` computes the gaps. `liquidlm.nn.cells.decay` turns a gap into a decay.
"""

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor
from transformers.utils import logging

from ..errors import LiquidError
from ..runtime.seeds import generator_seed
from ..runtime.traced import fails, holds
from .arguments import check_integers, check_positive

KINDS = ("uniform", "poisson", "bursty")

# The bursty process, in units of the mean gap.
BURST_LENGTH = 8  # mean number of events in a burst
SIMULTANEOUS = 0.5  # share of the events of a burst with exactly the time of the event before
NEAR = 0.01  # mean gap of the other events of a burst
TAIL = 1.5  # Pareto exponent of the pauses between bursts: finite mean, infinite variance


def generate_timestamps(
    batch_size: int, seq_length: int, kind: str = "uniform", *, rate: float = 1.0, seed: int | None = None
) -> Float64[Tensor, "b t"]:
    """Non-decreasing times of events, one sequence per row. Every row begins at time 0.

    The mean gap is 1/rate for every kind:

    - ``"uniform"``: t_i = i / rate, by default 0, 1, 2, …;
    - ``"poisson"``: a Poisson process, with gaps ~ Exponential(rate);
    - ``"bursty"``: with probability 1/8 an event opens a new burst, after a long pause ~ Pareto(3/2).
      Otherwise it belongs to the burst of the event before: with probability 1/2 at exactly the same time
      (gap 0), else after a gap ~ Exponential with the mean 0.01/rate.

    Args:
        batch_size: B, the number of rows.
        seq_length: T, the number of events per row.
        kind: "uniform", "poisson" or "bursty".
        rate: events per unit of time, positive and finite.
        seed: seed of the random gaps; None: a new one in each call. The global generator of torch does not
            change.

    Returns:
        float64 times (B, T), on the CPU.

    Raises:
        LiquidError: a size below 1, an unknown kind, or a rate that is not positive and finite.

    Example:
        >>> generate_timestamps(1, 4, rate=2.0)
        tensor([[0.0000, 0.5000, 1.0000, 1.5000]], dtype=torch.float64)
        >>> times = generate_timestamps(1, 100_000, "poisson", rate=2.0, seed=0)
        >>> gap = times.diff().mean()
        >>> bool((gap - 0.5).abs() < 0.01), bool((times.diff() >= 0).all())
        (True, True)
    """
    check_integers(batch_size=batch_size, seq_length=seq_length)
    if kind not in KINDS:
        raise LiquidError(f"unknown kind of timestamps {kind!r}: choose one of {', '.join(KINDS)}")
    check_positive(rate=rate)

    if kind == "uniform":
        return (torch.arange(seq_length, dtype=torch.float64) / rate).repeat(batch_size, 1)
    generator = torch.Generator()
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed(generator_seed(seed))
    gaps = torch.empty(batch_size, seq_length - 1, dtype=torch.float64).exponential_(generator=generator)
    if kind == "bursty":
        gaps = _bursty(gaps, generator)
    return torch.cat([torch.zeros(batch_size, 1, dtype=torch.float64), gaps.cumsum(1) / rate], dim=1)


def _bursty(exponential: Float64[Tensor, "b t"], generator: torch.Generator) -> Float64[Tensor, "b t"]:
    """Gaps of the bursty process, with mean 1, made from gaps ~ Exponential(1)."""
    opens, same, pause = torch.rand(3, *exponential.shape, dtype=torch.float64, generator=generator)
    near = torch.where(same < SIMULTANEOUS, 0.0, NEAR * exponential)
    # Quantile of Pareto: shortest·(1−u)^(−1/TAIL); mean: shortest·TAIL/(TAIL−1). The mean of all gaps is 1.
    near_mean = (1 - 1 / BURST_LENGTH) * (1 - SIMULTANEOUS) * NEAR
    shortest = (1 - near_mean) * BURST_LENGTH * (TAIL - 1) / TAIL
    return torch.where(opens < 1 / BURST_LENGTH, shortest * (1 - pause) ** (-1 / TAIL), near)


def in_float64(timestamps: Any, time_scale: float = 1.0) -> Float64[Tensor, "*shape"]:
    """Times in float64, in which large times (such as seconds since 1970) keep their small gaps.

    In float32 neighbouring times of today are 128 s apart. If times arrive in a type that is too coarse for
    `time_scale`, a warning is logged: their small gaps are lost already.

    Args:
        timestamps: a tensor of any real type, an array, or nested lists.
        time_scale: the gap that should not be lost.

    Raises:
        LiquidError: values that are not real numbers.

    Example:
        >>> in_float64([[1_700_000_000, 1_700_000_001]]).diff()
        tensor([[1.]], dtype=torch.float64)
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
            f"times in {given.dtype} are too coarse for values this large: small gaps are lost; give times in"
            " torch.float64 or as integers"
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
    """The gaps Δ (B, T): the time since the event before, in the same row and the same document.

        Δ_i = (t_i − t_prev(i)) / time_scale,    prev(i) = the last real token before i
        Δ_i = +∞  where a document starts, so that nothing passes
        Δ_i = 0   where padded

    Differences are taken in float64, so that large times (such as seconds since 1970) keep their small gaps.
    A finite gap stays finite in `dtype`. Finite gaps are differentiable in `timestamps` and `last_time`.

    Args:
        timestamps: (B, T) times of any real type, non-decreasing within a document.
        last_time: (B,) the time of the last event before this call; −∞ in a row without one. None: no row has
            one, and the first token of each row starts a document.
        time_scale: the gap that becomes 1; positive and finite.
        starts: (B, T) true where a document starts; ignored at padded positions.
        mask: (B, T) true (or 1) where a token is real; times of padded positions are ignored.
        dtype: the type of the result.

    Raises:
        LiquidError: times that decrease within a document, NaN or infinite times (the message names row and
            position), shapes that do not match, or a time_scale that is not positive and finite.

    Example:
        >>> elapsed(torch.tensor([[10.0, 12.0, 12.0, 15.0]]), time_scale=2.0)
        tensor([[   inf, 1.0000, 0.0000, 1.5000]])
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
    """The targets of a time head (B, T): (t_next − t) / time_scale where `counted`, else 0.

    Args:
        timestamps: (B, T) t, the time of each token.
        following: (B, T) t_next, the time of the token that follows.
        counted: (B, T) true where the gap is a target; other times are ignored.
        time_scale: the gap that becomes 1.
        dtype: the type of the result.

    Raises:
        LiquidError: a counted time that is not finite, or that is before the token it follows (the message
            names row and position).
    """
    times, later = in_float64(timestamps, time_scale), in_float64(following, time_scale)
    gaps = torch.where(counted, later - times, 0.0)
    wrong = ~(gaps.isfinite() & (gaps >= 0))
    if fails(wrong.any(), "times must be finite and must not decrease"):
        row, position = wrong.nonzero()[0].tolist()
        raise LiquidError(
            f"row {row}, position {position} is at {times[row, position].item()!r}, the next one at"
            f" {later[row, position].item()!r}: times must be finite and must not decrease"
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
        raise LiquidError(f"timestamps must have the shape (batch, tokens), one time per token, not {shape}")
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
        return LiquidError(f"timestamps: row {row}, position {position} is {time}: every time must be finite")
    return LiquidError(
        f"timestamps: row {row}, position {position} is {time!r}, after {before!r}: times must not decrease"
        " within a document; sort the events, or mark where a new document starts"
    )
