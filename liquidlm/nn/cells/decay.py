"""Where a gap becomes a decay: decay = e^{−rate · gap}.

`liquidlm.nn.timestamps.elapsed` computes the gaps from timestamps. These parts turn a gap into a decay:

- `LiquidNeuron` and `ImprovedLiquidTimeCell`, through `relax`: the state h moves towards its equilibrium;
- `AsyncLiquidCell.reads`, through `log_decay`: the memory leaks;
- `liquidlm.ops.relax` (a sequence) and `liquidlm.model.step` (one token): the same formula in fused form,
  for speed.
"""

import torch
from jaxtyping import Float, Num
from torch import Tensor

SLOWEST = 1e5
"""The longest initial time constant, in gaps."""


def log_decay(rate: Float[Tensor, "*b h"], elapsed: Num[Tensor, "*#b #h"]) -> Float[Tensor, "*b h"]:
    """ln decay = −rate · elapsed, at most 0.

    Args:
        rate: λ ≥ 0, per gap.
        elapsed: Δ ≥ 0, in gaps.
    """
    return -rate * elapsed


def relax(
    rate: Float[Tensor, "*b h"], drive: Float[Tensor, "*b h"], elapsed: Num[Tensor, "*#b #h"]
) -> tuple[Float[Tensor, "*b h"], Float[Tensor, "*b h"]]:
    """The exact solution of dh/dt = drive − rate·h after `elapsed`, as the map h ↦ decay·h + offset.

        decay = e^{−rate·elapsed},    offset = (1 − decay) · drive/rate

    Args:
        rate: λ > 0, per gap.
        drive: what pushes h, per gap.
        elapsed: Δ ≥ 0, in gaps; broadcasts against rate.

    Returns:
        decay, in 0…1, and offset.

    After two gaps, one after the other, h is the same as after their sum:

        >>> rate, drive, h = torch.tensor([0.5, 2.0]), torch.tensor([1.0, 1.0]), torch.tensor([3.0, -1.0])
        >>> def after(h, gap):
        ...     decay, offset = relax(rate, drive, torch.tensor([gap]))
        ...     return decay * h + offset
        >>> torch.testing.assert_close(after(after(h, 0.3), 0.7), after(h, 1.0))
        >>> after(h, 1e9)  # the equilibrium, drive/rate
        tensor([2.0000, 0.5000])
    """
    exponent = log_decay(rate, elapsed)
    return exponent.exp(), -torch.expm1(exponent) * (drive / rate)


def time_constant(
    rate: Float[Tensor, "*b h"], pace: Float[Tensor, "*b h"] | float = 1.0, unit: float = 1.0
) -> Float[Tensor, "*b h"]:
    """unit/(rate·pace): the time after which 1/e of a difference is left.

    Args:
        rate: λ > 0, per unit of the cell's own time.
        pace: units of the cell's own time per gap of 1.
        unit: the gap of 1 in the unit of the result (`time_scale` for the unit of the timestamps).

    Example:
        >>> rate = torch.tensor([0.25])
        >>> log_decay(rate, time_constant(rate)).exp()  # 1/e
        tensor([0.3679])
    """
    return unit / (rate * pace)


def spread_time_constants(count: int) -> Float[Tensor, "{count}"]:
    """`count` initial time constants, evenly spaced in log over 1…SLOWEST gaps.

    Each is the middle of one of `count` equal parts of that range.

        >>> spread_time_constants(5)
        tensor([3.1623e+00, 3.1623e+01, 3.1623e+02, 3.1623e+03, 3.1623e+04])
    """
    return SLOWEST ** ((torch.arange(count) + 0.5) / count)


def inverse_softplus(x: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    """The y with softplus(y) = x, for x > 0."""
    return x + torch.log(-torch.expm1(-x))
