"""The liquid time-constant (LTC) neuron, and the one whose conductances a context modulates.

Symbols: H hidden size, E input size; e input, h state, f ≥ 0 conductance, A reversal potential,
τ > 0 membrane time constant. Times are in gaps (elapsed time over the model's `time_scale`).
"""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Num
from torch import Tensor, nn

from ...errors import LiquidError
from ...ops import liquid_scan
from ...runtime.offload import at_hand
from ..arguments import check_rate, check_whole

SLOWEST = 1e5
"""Initial time constants are log-uniform over 1…SLOWEST gaps."""


def spread_time_constants(count: int) -> Float[Tensor, "{count}"]:
    """`count` time constants, evenly spaced in log over 1…10⁵ gaps (the middle of each of `count` strata)."""
    return SLOWEST ** ((torch.arange(count) + 0.5) / count)


def inverse_softplus(x: Tensor) -> Tensor:
    return x + torch.log(-torch.expm1(-x))


class LiquidNeuron(nn.Module):
    """dh/dt = −(1/τ + f(e)) ⊙ h + f(e) ⊙ A(e), τ > 0, f = softplus(·) ≥ 0 (Hasani et al. 2021, LTC).

    For constant e, with λ = 1/τ + f and h∞ = fA/λ, exactly

        h(Δ) = h∞ + (h − h∞) e^{−λΔ},

    a convex combination of h and h∞ where |h∞| ≤ |A|: bounded by A for any Δ ≥ 0. In a sequence it is a
    diagonal linear recurrence, computed in parallel over time. A(e) is linear in e.
    """

    def __init__(self, hidden_size: int, input_size: int | None = None):
        super().__init__()
        check_whole(hidden_size=hidden_size, input_size=hidden_size if input_size is None else input_size)
        self.hidden_size = hidden_size
        self.synapse = nn.Linear(input_size or hidden_size, 2 * hidden_size)
        rate = 1 / spread_time_constants(hidden_size)
        # A tenth of the initial rate is the membrane's own, the rest is conductance.
        self.log_tau = nn.Parameter(-torch.log(0.1 * rate))
        nn.init.normal_(self.synapse.weight, std=(input_size or hidden_size) ** -0.5)
        with torch.no_grad():
            self.synapse.weight[:hidden_size] *= 0.5
            self.synapse.bias[:hidden_size] = inverse_softplus(0.9 * rate)
            self.synapse.bias[hidden_size:] = 0.0

    def conductances(self, e: Float[Tensor, "*b e"]) -> tuple[Float[Tensor, "*b h"], Float[Tensor, "*b h"]]:
        """λ(e) = 1/τ + f(e) and the drive f(e) ⊙ A(e), in at least float32 whatever autocast says."""
        synapse = self.synapse(e)
        f, potential = synapse.to(torch.promote_types(synapse.dtype, torch.float32)).chunk(2, -1)
        f = F.softplus(f)
        with at_hand(self):
            return torch.exp(-self.log_tau) + f, f * potential

    def forward(
        self, t: Tensor | float, h: Float[Tensor, "*b h"], e: Float[Tensor, "*b e"]
    ) -> Float[Tensor, "*b h"]:
        """dh/dt at state h under input e; autonomous, t is there for the solvers."""
        rate, drive = self.conductances(e)
        return drive - rate * h

    def step(
        self, h: Float[Tensor, "*b h"], e: Float[Tensor, "*b e"], elapsed: Num[Tensor, "*b"]
    ) -> Float[Tensor, "*b h"]:
        """h after `elapsed` ≥ 0 under constant input e, by the closed form."""
        decay, drive = relax(*self.conductances(e), elapsed[..., None])
        return decay * h + drive

    def scan(
        self, e: Float[Tensor, "b t e"], elapsed: Num[Tensor, "b t"], h0: Float[Tensor, "b h"]
    ) -> Float[Tensor, "b t h"]:
        """h after every interval, each under its own input: all of `step`s, in parallel over time."""
        return liquid_scan(*relax(*self.conductances(e), elapsed[..., None]), h0)


def relax(
    rate: Float[Tensor, "*b h"], drive: Float[Tensor, "*b h"], elapsed: Num[Tensor, "*#b #h"]
) -> tuple[Float[Tensor, "*b h"], Float[Tensor, "*b h"]]:
    """The exact flow of dh/dt = drive − rate·h over `elapsed`, as the map h ↦ decay·h + offset."""
    exponent = -rate * elapsed
    return exponent.exp(), -torch.expm1(exponent) * (drive / rate)


class AdaptiveLiquidNeuron(nn.Module):
    """An LTC neuron whose rate and drive a context c modulates: LiquidNeuron on [e, c].

    context="input": c = encoder(e). Linear in h: closed form, parallel over time.
    context="state": c = encoder([e, tanh h]), the fully nonlinear LTC: `forward` for a solver. However
    large h is, A stays within a bound of e's, so that h does, too.
    """

    def __init__(
        self,
        hidden_size: int,
        dropout_rate: float = 0.1,
        context: Literal["input", "state"] = "input",
        context_size: int | None = None,
    ):
        super().__init__()
        check_whole(hidden_size=hidden_size, context_size=1 if context_size is None else context_size)
        check_rate(dropout_rate=dropout_rate)
        if context not in ("input", "state"):
            raise LiquidError(f'context must be "input" or "state", not {context!r}')
        width = context_size or max(8, hidden_size // 4)
        self.context = context
        self.dropout = nn.Dropout(dropout_rate)
        self.encoder = nn.Linear(hidden_size * (2 if context == "state" else 1), width)
        self.neuron = LiquidNeuron(hidden_size, hidden_size + width)

    def modulated(self, e: Float[Tensor, "*b h"], h: Float[Tensor, "*b h"] | None) -> Float[Tensor, "*b m"]:
        """[e, c]: the neuron's input; h for a context from the state.

        Raises:
            LiquidError: a context from the state, and no state.
        """
        seen = e
        if self.context == "state":
            if h is None:
                raise LiquidError('context="state": rate and drive are those at a state h, which is missing')
            seen = torch.cat([e, h.tanh().to(e.dtype)], -1)
        return torch.cat([e, F.silu(self.encoder(seen)).to(e.dtype)], -1)

    def synapse(self, e: Float[Tensor, "*b h"]) -> Float[Tensor, "*b two_h"]:
        """What f and A are made of, for a context from the input: the output of the neuron's synapse."""
        return self.neuron.synapse(self.modulated(self.dropout(e), None))

    def conductances(
        self, e: Float[Tensor, "*b h"], h: Float[Tensor, "*b h"] | None = None
    ) -> tuple[Float[Tensor, "*b h"], Float[Tensor, "*b h"]]:
        """Rate λ and drive fA, for a context from the state at state h; see `LiquidNeuron.conductances`."""
        return self.neuron.conductances(self.modulated(self.dropout(e), h))

    def forward(
        self, t: Tensor | float, h: Float[Tensor, "*b h"], e: Float[Tensor, "*b h"]
    ) -> Float[Tensor, "*b h"]:
        """dh/dt. For a solver use `dynamics`, which draws dropout once and not at every evaluation."""
        return self.dynamics(e)(t, h)

    def dynamics(self, e: Float[Tensor, "*b h"]) -> Callable[[Tensor | float, Tensor], Tensor]:
        """The right-hand side (t, h) ↦ dh/dt under constant input e."""
        if self.context == "input":
            rate, drive = self.conductances(e)
            return lambda t, h: drive - rate * h
        e = self.dropout(e)
        return lambda t, h: self.neuron(t, h, self.modulated(e, h))
