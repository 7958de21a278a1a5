"""The liquid time-constant (LTC) neuron, and the one whose rate and drive depend on a context.

Symbols: H hidden size, E input size; e input, h state, f ≥ 0 conductance, A reversal potential, τ > 0 time
constant of the membrane, λ = 1/τ + f rate. Times are in gaps (elapsed time over `time_scale`). `relax` in
`decay.py` turns a gap into a decay.
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
from ..arguments import check_integers, check_rate
from .decay import inverse_softplus, relax, spread_time_constants, time_constant


class LiquidNeuron(nn.Module):
    """H liquid time-constant neurons (Hasani et al. 2021, "Liquid Time-constant Networks", arXiv:2006.04439).

        dh/dt = −(1/τ + f(e)) ⊙ h + f(e) ⊙ A(e),    τ > 0,  f = softplus(·) ≥ 0,  A linear in e

    For constant e, with λ = 1/τ + f and h∞ = fA/λ, exactly

        h(Δ) = h∞ + (h − h∞) e^{−λΔ}.

    The result lies between h and h∞, and |h∞| ≤ |A|: h stays bounded for every Δ ≥ 0. Over a sequence this is
    a diagonal linear recurrence, which `scan` computes in parallel over time. At the start the time constants
    1/λ at e = 0 are spread in log over 1…10⁵ gaps.

    Shapes: e (…, E), h (…, H), elapsed (…).

    Args:
        hidden_size: H.
        input_size: E; None: H.

    Raises:
        LiquidError: a size that is not a whole number of at least 1.

    Example:
        Two gaps compose: 0.5 and then 1.5 is the same as 2.

        >>> neuron = LiquidNeuron(4)
        >>> e, h = torch.randn(1, 4), torch.randn(1, 4)
        >>> twice = neuron.step(neuron.step(h, e, torch.tensor([0.5])), e, torch.tensor([1.5]))
        >>> torch.testing.assert_close(twice, neuron.step(h, e, torch.tensor([2.0])))

        After a very long gap h is at its equilibrium, where dh/dt = 0.

        >>> rest = neuron.step(h, e, torch.tensor([1e9]))
        >>> torch.testing.assert_close(neuron(0.0, rest, e), torch.zeros(1, 4))
    """

    def __init__(self, hidden_size: int, input_size: int | None = None):
        super().__init__()
        check_integers(hidden_size=hidden_size, input_size=hidden_size if input_size is None else input_size)
        self.hidden_size = hidden_size
        self.synapse = nn.Linear(input_size or hidden_size, 2 * hidden_size)
        rate = 1 / spread_time_constants(hidden_size)
        # A tenth of the initial rate is 1/τ, the rest is f.
        self.log_tau = nn.Parameter(-torch.log(0.1 * rate))
        nn.init.normal_(self.synapse.weight, std=(input_size or hidden_size) ** -0.5)
        with torch.no_grad():
            self.synapse.weight[:hidden_size] *= 0.5
            self.synapse.bias[:hidden_size] = inverse_softplus(0.9 * rate)
            self.synapse.bias[hidden_size:] = 0.0

    def conductances(self, e: Float[Tensor, "*b e"]) -> tuple[Float[Tensor, "*b h"], Float[Tensor, "*b h"]]:
        """The rate λ(e) = 1/τ + f(e) and the drive f(e) ⊙ A(e), both (…, H) and per gap.

        Computed in at least float32, also under autocast.
        """
        synapse = self.synapse(e)
        f, potential = synapse.to(torch.promote_types(synapse.dtype, torch.float32)).chunk(2, -1)
        f = F.softplus(f)
        with at_hand(self):
            return torch.exp(-self.log_tau) + f, f * potential

    def resting_time_constants(self) -> Float[Tensor, " h"]:
        """1/λ(0): the time constant of every unit, in gaps, for an input of 0."""
        rate, _ = self.conductances(self.synapse.weight.new_zeros(self.synapse.in_features))
        return time_constant(rate)

    def forward(
        self, t: Tensor | float, h: Float[Tensor, "*b h"], e: Float[Tensor, "*b e"]
    ) -> Float[Tensor, "*b h"]:
        """dh/dt (…, H) at state h under input e. It does not depend on t, which ODE solvers pass."""
        rate, drive = self.conductances(e)
        return drive - rate * h

    def step(
        self, h: Float[Tensor, "*b h"], e: Float[Tensor, "*b e"], elapsed: Num[Tensor, "*b"]
    ) -> Float[Tensor, "*b h"]:
        """h after `elapsed` under constant input e, by the closed form.

        Args:
            h: (…, H) the state before.
            e: (…, E) the input.
            elapsed: (…) Δ ≥ 0, in gaps.

        Returns:
            the state after, (…, H).
        """
        decay, offset = relax(*self.conductances(e), elapsed[..., None])
        return decay * h + offset

    def scan(
        self, e: Float[Tensor, "b t e"], elapsed: Num[Tensor, "b t"], h0: Float[Tensor, "b h"]
    ) -> Float[Tensor, "b t h"]:
        """h after each interval, each under its own input: the same as repeated `step`, parallel over time.

        Args:
            e: (B, T, E) the input of each interval.
            elapsed: (B, T) the length of each interval, in gaps.
            h0: (B, H) the state before the first interval.

        Example:
            A sequence read in two parts gives the same states as one read at once.

            >>> neuron = LiquidNeuron(4)
            >>> e, gaps, h0 = torch.randn(1, 6, 4), torch.rand(1, 6), torch.zeros(1, 4)
            >>> whole = neuron.scan(e, gaps, h0)
            >>> first = neuron.scan(e[:, :2], gaps[:, :2], h0)
            >>> second = neuron.scan(e[:, 2:], gaps[:, 2:], first[:, -1])
            >>> torch.testing.assert_close(torch.cat([first, second], 1), whole)
        """
        return liquid_scan(*relax(*self.conductances(e), elapsed[..., None]), h0)


class AdaptiveLiquidNeuron(nn.Module):
    """An LTC neuron whose rate and drive depend on a context c: `LiquidNeuron` with the input [e, c].

        context="input":  c = silu(W e)              linear in h: closed form, parallel over time
        context="state":  c = silu(W [e, tanh h])    nonlinear in h: needs a solver

    With context="state", tanh bounds what A sees of h. Therefore h stays bounded too.

    Shapes: e, h (…, H).

    Args:
        hidden_size: H, of the input and of the state.
        dropout_rate: dropout of e, in [0, 1).
        context: what c is computed from.
        context_size: size of c; None: H/4, at least 8.

    Raises:
        LiquidError: a size or rate out of range, or an unknown context.

    Example:
        The equation is linear in h only if the context comes from the input.

        >>> e, h = torch.randn(1, 8), torch.randn(1, 8)
        >>> def is_linear(neuron):
        ...     slope = neuron(0.0, h, e) - neuron(0.0, 0 * h, e)
        ...     return torch.allclose(neuron(0.0, 2 * h, e) - neuron(0.0, h, e), slope, atol=1e-5)
        >>> is_linear(AdaptiveLiquidNeuron(8).eval())
        True
        >>> is_linear(AdaptiveLiquidNeuron(8, context="state").eval())
        False
    """

    def __init__(
        self,
        hidden_size: int,
        dropout_rate: float = 0.1,
        context: Literal["input", "state"] = "input",
        context_size: int | None = None,
    ):
        super().__init__()
        check_integers(hidden_size=hidden_size, context_size=1 if context_size is None else context_size)
        check_rate(dropout_rate=dropout_rate)
        if context not in ("input", "state"):
            raise LiquidError(f'context must be "input" or "state", not {context!r}')
        width = context_size or max(8, hidden_size // 4)
        self.context = context
        self.dropout = nn.Dropout(dropout_rate)
        self.encoder = nn.Linear(hidden_size * (2 if context == "state" else 1), width)
        self.neuron = LiquidNeuron(hidden_size, hidden_size + width)

    def modulated(self, e: Float[Tensor, "*b h"], h: Float[Tensor, "*b h"] | None) -> Float[Tensor, "*b m"]:
        """[e, c], the input of the inner neuron; with context="state" c depends on h.

        Raises:
            LiquidError: context="state" and no h.
        """
        seen = e
        if self.context == "state":
            if h is None:
                raise LiquidError('context="state" needs the state h: rate and drive depend on it; give h')
            seen = torch.cat([e, h.tanh().to(e.dtype)], -1)
        return torch.cat([e, F.silu(self.encoder(seen)).to(e.dtype)], -1)

    def synapse(self, e: Float[Tensor, "*b h"]) -> Float[Tensor, "*b two_h"]:
        """(…, 2H), from which f and A are computed; for context="input" only."""
        return self.neuron.synapse(self.modulated(self.dropout(e), None))

    @property
    def is_plain(self) -> bool:
        """Whether `parts` can split the layers: an adapter in place of one is not split."""
        return type(self.encoder) is nn.Linear and type(self.neuron.synapse) is nn.Linear

    def parts(
        self, e: Float[Tensor, "*b h"]
    ) -> tuple[
        Float[Tensor, "*b c"], Float[Tensor, "*b two_h"], Float[Tensor, "c h"], Float[Tensor, "two_h c"]
    ]:
        """For context="state": what `nonlinear_relax` needs, encoded, synapse, of_state and of_context.

        The first two depend on the input alone.
        """
        e, h = self.dropout(e), self.neuron.hidden_size
        encoder, synapse = self.encoder, self.neuron.synapse
        with at_hand(encoder, synapse):
            encoded = F.linear(e, encoder.weight[:, :h], encoder.bias)
            felt = F.linear(e, synapse.weight[:, :h], synapse.bias)
            return encoded, felt, encoder.weight[:, h:], synapse.weight[:, h:]

    def conductances(
        self, e: Float[Tensor, "*b h"], h: Float[Tensor, "*b h"] | None = None
    ) -> tuple[Float[Tensor, "*b h"], Float[Tensor, "*b h"]]:
        """The rate λ and the drive f ⊙ A, as `LiquidNeuron.conductances`; with context="state" at state h.

        Raises:
            LiquidError: context="state" and no h.
        """
        return self.neuron.conductances(self.modulated(self.dropout(e), h))

    def forward(
        self, t: Tensor | float, h: Float[Tensor, "*b h"], e: Float[Tensor, "*b h"]
    ) -> Float[Tensor, "*b h"]:
        """dh/dt at state h under input e. Give solvers `dynamics` instead: it draws dropout once."""
        return self.dynamics(e)(t, h)

    def dynamics(self, e: Float[Tensor, "*b h"]) -> Callable[[Tensor | float, Tensor], Tensor]:
        """The right-hand side (t, h) ↦ dh/dt under constant input e, for an ODE solver."""
        if self.context == "input":
            rate, drive = self.conductances(e)
            return lambda t, h: drive - rate * h
        e = self.dropout(e)
        return lambda t, h: self.neuron(t, h, self.modulated(e, h))
