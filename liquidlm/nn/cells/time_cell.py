"""The liquid time cell: a gate and a time warp set how fast time passes for the neuron.

A gap Δ becomes the cell's own time Δ̃ in `own_time`; `relax` in `decay.py` turns Δ̃ into a decay.
"""

import math
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Num
from torch import Tensor, nn

from ...errors import LiquidError
from ...ops import liquid_relax, nonlinear_relax, nonlinear_relax_newton
from ...runtime.offload import at_hand
from ..ode_methods import check_method
from ..timestamps import in_float64
from .decay import relax
from .neuron import AdaptiveLiquidNeuron

EXPONENTIAL_EULER = "exponential_euler"
NEWTON = "newton"


class ImprovedLiquidTimeCell(nn.Module):
    """An adaptive liquid neuron with its own clock: stability gate σ(g) per unit, time warp w(e) per event.

        dh/dt = σ(g) · w(e) · neuron(h, e),    w(e) = softplus(W e) > 0

    Both factors only rescale the elapsed time, Δ̃ = σ(g)·w(e)·Δ. The closed form of the neuron stays valid:

        h(Δ) = h∞ + (h − h∞) e^{−λΔ̃}.

    At the start σ(g)·w(e) = 1 on average. The equation is that of Hasani et al. 2021 (arXiv:2006.04439).

    Shapes: e, h (…, H); Δ (…), in gaps.

    Args:
        hidden_size: H.
        dropout_rate: dropout of e, in [0, 1).
        context, context_size: as for `AdaptiveLiquidNeuron`.

    Raises:
        LiquidError: a size or rate out of range, or an unknown context.

    Example:
        The closed form agrees with an ODE solver.

        >>> cell = ImprovedLiquidTimeCell(8).eval()
        >>> e, h, interval = torch.randn(1, 8), torch.randn(1, 8), torch.tensor([0.0, 3.0])
        >>> exact = cell(e, h, interval)
        >>> solved = cell(e, h, interval, solver="dopri5", rtol=1e-6, atol=1e-6)
        >>> torch.testing.assert_close(solved, exact, rtol=1e-4, atol=1e-4)
    """

    def __init__(
        self,
        hidden_size: int,
        dropout_rate: float = 0.1,
        context: Literal["input", "state"] = "input",
        context_size: int | None = None,
    ):
        super().__init__()
        self.hidden_size = hidden_size
        self.neuron = AdaptiveLiquidNeuron(hidden_size, dropout_rate, context, context_size)
        self.stability = nn.Parameter(torch.zeros(hidden_size))
        self.warp = nn.Linear(hidden_size, 1)
        nn.init.normal_(self.warp.weight, std=0.1 * hidden_size**-0.5)
        nn.init.constant_(self.warp.bias, math.log(math.expm1(2.0)))  # softplus ▶ 2, times σ(0) = ½

    def own_time(self, e: Float[Tensor, "*b h"], elapsed: Num[Tensor, "*b"]) -> Float[Tensor, "*b h"]:
        """Δ̃ = σ(g)·w(e)·Δ: the time that passes for each unit while `elapsed` passes.

        Args:
            e: (…, H) the input.
            elapsed: (…) Δ ≥ 0, in gaps.

        Returns:
            Δ̃ (…, H), in gaps.
        """
        warp = F.softplus(self.warp(e).to(torch.promote_types(elapsed.dtype, torch.float32)))
        with at_hand(self):
            return (warp * elapsed[..., None]) * torch.sigmoid(self.stability)

    def forward(
        self,
        e: Float[Tensor, "*b h"],
        h: Float[Tensor, "*b h"],
        t_span: Num[Tensor, "... n"],
        solver: str = "closed_form",
        **options: Any,
    ) -> Float[Tensor, "*b h"]:
        """h (…, H) after one interval under constant input e.

        Args:
            e: (…, H) the input.
            h: (…, H) the state at the first time.
            t_span: at least two times, in gaps. The interval goes from the first to the last: (n,) for all
                rows, or (…, n) with an interval per row.
            solver: "closed_form"; "exponential_euler", with the option `steps` (default 1); or a method of
                torchdiffeq ("dopri5", "rk4", …). With context="state" there is no closed form.
            options: of the solver, such as rtol and atol.

        Raises:
            LiquidError: fewer than two times; times that decrease or are not finite; a t_span of another
                shape; context="state" with "closed_form"; steps below 1; an unknown solver.
        """
        check_method(solver, "closed_form", EXPONENTIAL_EULER)
        t_span = in_float64(t_span)
        if (
            t_span.dim() < 1
            or t_span.shape[-1] < 2
            or not bool(t_span.isfinite().all())
            or bool((t_span.diff() < 0).any())
        ):
            raise LiquidError("t_span must hold at least two finite times that do not decrease")
        if t_span.dim() > 1 and t_span.shape[:-1] != h.shape[:-1]:
            raise LiquidError(
                f"t_span has shape {tuple(t_span.shape)} and h {tuple(h.shape)}: give t_span of shape (n,),"
                " or with one row of times per row of h"
            )
        elapsed = (t_span[..., -1] - t_span[..., 0]).to(h.dtype).expand(h.shape[:-1])
        if solver != "closed_form":
            return self._integrate(e, h, elapsed, solver, **options)
        if self.neuron.context == "state":
            raise LiquidError('context="state" has no closed form: give a solver, such as solver="dopri5"')
        decay, offset = relax(*self.neuron.conductances(e), self.own_time(e, elapsed))
        return decay * h + offset

    def _integrate(
        self,
        e: Float[Tensor, "*b h"],
        h: Float[Tensor, "*b h"],
        elapsed: Num[Tensor, "*b"],
        solver: str,
        **options: Any,
    ) -> Float[Tensor, "*b h"]:
        """h after the interval, by a solver. Intervals are mapped to 0…1, so rows may differ in length."""
        if solver == EXPONENTIAL_EULER:
            return self._exponential_euler(e, h, elapsed, **options)
        from torchdiffeq import odeint  # with scipy it takes 43 MB

        pace = self.own_time(e, elapsed)
        rhs = self.neuron.dynamics(e)
        unit = torch.tensor([0.0, 1.0], dtype=h.dtype, device=h.device)
        path = odeint(lambda t, x: pace * rhs(t, x), h, unit, method=solver, **options)
        assert isinstance(path, Tensor)
        return path[-1]

    def _exponential_euler(
        self,
        e: Float[Tensor, "*b h"],
        h: Float[Tensor, "*b h"],
        elapsed: Num[Tensor, "*b"],
        steps: int = 1,
    ) -> Float[Tensor, "*b h"]:
        """h after the interval, by exponential Euler in `steps` equal steps."""
        if steps < 1:
            raise LiquidError(f"steps must be at least 1 for exponential_euler, not {steps}")
        own_time, e = self.own_time(e, elapsed) / steps, self.neuron.dropout(e)
        for _ in range(steps):
            h = self._exponential_euler_step(e, h, own_time)
        return h

    def _exponential_euler_step(
        self, e: Float[Tensor, "*b h"], h: Float[Tensor, "*b h"], own_time: Float[Tensor, "*b h"]
    ) -> Float[Tensor, "*b h"]:
        """One step: rate and drive are fixed at their values at h, and that equation is solved exactly.

        A method of order 1 (Hochbruck & Ostermann 2010, "Exponential integrators"). The result stays between
        h, 0 and A(e, h) for every length of the step. With context="input" it is exact.
        """
        decay, offset = relax(*self.neuron.neuron.conductances(self.neuron.modulated(e, h)), own_time)
        return decay * h + offset

    def scan(
        self,
        e: Float[Tensor, "b t h"],
        elapsed: Num[Tensor, "b t"],
        h0: Float[Tensor, "b h"],
        start: Bool[Tensor, "b t"] | None = None,
        solver: str = EXPONENTIAL_EULER,
    ) -> Float[Tensor, "b t h"]:
        """h after each interval Δ_i, each under its own input e_i: the same as repeated `forward`.

        With context="input" this is parallel over time, by `liquid_relax` of `liquidlm.ops`. With
        context="state" the intervals are computed one after the other, by `nonlinear_relax`.

        Args:
            e: (B, T, H) the input of each interval.
            elapsed: (B, T) Δ, the length of each interval, in gaps.
            h0: (B, H) the state before the first interval.
            start: (B, T) true where a document starts: h is 0 before the interval, and no gradient passes.
            solver: for context="state": "exponential_euler", in one step per interval; "newton", the same
                states up to a tolerance, in parallel over time by `nonlinear_relax_newton`; or a method of
                torchdiffeq.

        Raises:
            LiquidError: an unknown solver, or "newton" does not converge.
        """
        check_method(solver, EXPONENTIAL_EULER, NEWTON)
        by_state, by_operation = self.neuron.context == "state", solver in (EXPONENTIAL_EULER, NEWTON)
        if by_state and not (by_operation and self.neuron.is_plain):
            return self._scan_by_steps(e, elapsed, h0, start, solver)
        elapsed = elapsed.to(h0.dtype)
        with at_hand(self, self.neuron.neuron):
            leak = torch.exp(-self.neuron.neuron.log_tau).to(h0.dtype)
            pace = torch.sigmoid(self.stability).to(h0.dtype)
        duration = F.softplus(self.warp(e)[..., 0].to(elapsed.dtype)) * elapsed
        if by_state:
            encoded, synapse, of_state, of_context = self.neuron.parts(e)
            matrices = of_state.to(h0.dtype), of_context.to(h0.dtype)
            operation = nonlinear_relax_newton if solver == NEWTON else nonlinear_relax
            return operation(encoded, synapse, *matrices, leak, duration, pace, h0, start)
        return liquid_relax(self.neuron.synapse(e), leak, duration, pace, h0, start)

    def _scan_by_steps(
        self,
        e: Float[Tensor, "b t h"],
        elapsed: Num[Tensor, "b t"],
        h0: Float[Tensor, "b h"],
        start: Bool[Tensor, "b t"] | None,
        solver: str,
    ) -> Float[Tensor, "b t h"]:
        if solver in (EXPONENTIAL_EULER, NEWTON):  # what does not depend on the state is computed once
            step, inputs, times = (
                self._exponential_euler_step,
                self.neuron.dropout(e),
                self.own_time(e, elapsed),
            )
        else:
            step, inputs, times = partial(self._integrate, solver=solver), e, elapsed
        states, h = [], h0
        for i in range(e.shape[1]):
            if start is not None:
                h = h.masked_fill(start[:, i, None], 0.0)
            h = step(inputs[:, i], h, times[:, i])
            states.append(h)
        return torch.stack(states, 1)
