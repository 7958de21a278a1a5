"""The liquid time cell: a gate and a time warp rescale how fast time passes for the neuron."""

import math
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Num
from torch import Tensor, nn
from torchdiffeq import odeint

from ...errors import LiquidError
from ...ops import liquid_relax
from ...runtime.offload import at_hand
from ..ode import check_method
from ..timestamps import in_float64
from .neuron import AdaptiveLiquidNeuron, relax

EXPONENTIAL_EULER = "exponential_euler"


class ImprovedLiquidTimeCell(nn.Module):
    """dh/dt = σ(g) · w(e) · neuron(h, e): stability gate σ(g) per unit, time warp w(e) > 0 per event.

    Both only rescale the elapsed time, Δ̃ = σ(g)·w(e)·Δ, so that the neuron's closed form survives:
    h(Δ) = h∞ + (h − h∞) e^{−λΔ̃}. At the start σ(g)·w(e) = 1 on average.

    Shapes: e, h (…, H); Δ (…). Times in gaps.
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
        """Δ̃ of every unit."""
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
        """h after one interval under constant input e.

        Args:
            t_span: times (n ≥ 2) of which the first and last bound the interval; one for all rows, (n,),
                or one per row, (…, n).
            solver: "closed_form"; "exponential_euler" with the option `steps` (1); or any method of
                torchdiffeq ("dopri5", "rk4", …) with its options (rtol, atol). A context from the state has
                no closed form.

        Raises:
            LiquidError: times that go back, or are not finite; fewer than two; of other rows; no closed form;
                fewer than one of steps; an unknown solver.
        """
        check_method(solver, "closed_form", EXPONENTIAL_EULER)
        t_span = in_float64(t_span)
        if (
            t_span.dim() < 1
            or t_span.shape[-1] < 2
            or not bool(t_span.isfinite().all())
            or bool((t_span.diff() < 0).any())
        ):
            raise LiquidError("t_span needs at least two finite times that do not decrease")
        if t_span.dim() > 1 and t_span.shape[:-1] != h.shape[:-1]:
            raise LiquidError(
                f"t_span {tuple(t_span.shape)} must be (n,), or have a row for each row of h {tuple(h.shape)}"
            )
        elapsed = (t_span[..., -1] - t_span[..., 0]).to(h.dtype).expand(h.shape[:-1])
        if solver != "closed_form":
            return self._integrate(e, h, elapsed, solver, **options)
        if self.neuron.context == "state":
            raise LiquidError('context="state" has no closed form: choose a solver, such as solver="dopri5"')
        decay, drive = relax(*self.neuron.conductances(e), self.own_time(e, elapsed))
        return decay * h + drive

    def _integrate(
        self,
        e: Float[Tensor, "*b h"],
        h: Float[Tensor, "*b h"],
        elapsed: Num[Tensor, "*b"],
        solver: str,
        **options: Any,
    ) -> Float[Tensor, "*b h"]:
        """The same by a solver, every row's interval mapped to 0…1 so that rows may differ in length."""
        if solver == EXPONENTIAL_EULER:
            return self._exponential_euler(e, h, elapsed, **options)
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
        """`steps` equal parts of the interval, one after the other; see below."""
        if steps < 1:
            raise LiquidError(f"exponential_euler takes at least 1 of steps, not {steps}")
        own_time, e = self.own_time(e, elapsed) / steps, self.neuron.dropout(e)
        for _ in range(steps):
            h = self._exponential_euler_step(e, h, own_time)
        return h

    def _exponential_euler_step(
        self, e: Float[Tensor, "*b h"], h: Float[Tensor, "*b h"], own_time: Float[Tensor, "*b h"]
    ) -> Float[Tensor, "*b h"]:
        """Rate and drive stay what they are at its beginning, and that is solved exactly (Hochbruck &
        Ostermann 2010): of first order; between h, 0 and A(e, h) however long it is; the identity where it
        takes no time; exact where the context is from the input."""
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
        """h after every interval Δ_i, each under its own input e_i: all of `forward`s.

        Where `start` is true h is 0 before the interval: nothing of the past passes, gradients neither.
        In parallel over time; with context="state" one interval after the other, by `solver` (exponential
        Euler in one step, or a method of torchdiffeq).
        """
        check_method(solver, EXPONENTIAL_EULER)
        if self.neuron.context == "state":
            return self._scan_by_steps(e, elapsed, h0, start, solver)
        elapsed = elapsed.to(h0.dtype)
        with at_hand(self, self.neuron.neuron):
            leak = torch.exp(-self.neuron.neuron.log_tau).to(h0.dtype)
            pace = torch.sigmoid(self.stability).to(h0.dtype)
        warp = F.softplus(self.warp(e)[..., 0].to(elapsed.dtype))
        return liquid_relax(self.neuron.synapse(e), leak, warp * elapsed, pace, h0, start)

    def _scan_by_steps(
        self,
        e: Float[Tensor, "b t h"],
        elapsed: Num[Tensor, "b t"],
        h0: Float[Tensor, "b h"],
        start: Bool[Tensor, "b t"] | None,
        solver: str,
    ) -> Float[Tensor, "b t h"]:
        if solver == EXPONENTIAL_EULER:  # what does not take the state, for all intervals at once
            inputs, times, step = (
                self.neuron.dropout(e),
                self.own_time(e, elapsed),
                self._exponential_euler_step,
            )
        else:
            inputs, times, step = e, elapsed, partial(self._integrate, solver=solver)
        states, h = [], h0
        for i in range(e.shape[1]):
            if start is not None:
                h = h.masked_fill(start[:, i, None], 0.0)
            h = step(inputs[:, i], h, times[:, i])
            states.append(h)
        return torch.stack(states, 1)
