"""The ODE of the embedding stage, and its integration."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..errors import LiquidError
from ..runtime.offload import at_hand
from ..runtime.precision import full_precision
from ..runtime.traced import fails
from .ode_methods import FIXED_STEP, check_method
from .timestamps import in_float64


class ODEFunc(nn.Module):
    """The vector field of the embedding stage, with trajectories that stay bounded.

        de/dt = φ(LN(e)) − δ(1 + κ‖e‖/√H) e,    φ = (1−α) tanh + α GELU,    α ∈ (0, 1) learned

    It is solved by `integrate` (a neural ODE: Chen et al. 2018, arXiv:1806.07366).

    Trajectories exist and are bounded for all t ≥ 0. Proof: |tanh u| ≤ |u| and |GELU u| ≤ |u|, hence |φ(u)| ≤
    |u|; with LN(e) = γ ⊙ n + β and ‖n‖ ≤ √H this gives ‖φ(LN(e))‖ ≤ M = max|γ|·√H + ‖β‖. Therefore

        d‖e‖/dt = ⟨e, de/dt⟩/‖e‖ ≤ M − δ‖e‖ − δκ‖e‖²/√H ≤ M − δ‖e‖.

    The middle expression falls with ‖e‖ and is 0 at R = 2M/(δ(1 + √(1 + 4κM/(δ√H)))) ≤ M/δ, so that
    ‖e(t)‖ ≤ max(‖e(0)‖, R), and by Grönwall's inequality ‖e(t)‖ ≤ M/δ + (‖e(0)‖ − M/δ) e^{−δt}: from any
    start a trajectory comes down to the ball of radius R. The field is locally Lipschitz, and a solution that
    stays bounded exists for all t.

    Shapes: e (…, H).

    Args:
        layer_norm: LN, over H features.
        decay_factor: δ > 0, per unit of t.
        adaptive_factor: κ ≥ 0; larger values pull large states back faster.

    Raises:
        LiquidError: a factor out of these ranges, or a layer_norm of another class.

    Example:
        A trajectory that starts far away comes back to the ball of radius M/δ, here √H/δ.

        >>> field = ODEFunc(nn.LayerNorm(16), decay_factor=0.5)
        >>> far = 1000 * torch.ones(1, 16)
        >>> late = integrate(field, far, torch.linspace(0, 50, 501))
        >>> bool(late.norm() <= 16**0.5 / 0.5)
        True
    """

    def __init__(
        self, layer_norm: nn.LayerNorm, decay_factor: float = 0.1, adaptive_factor: float = 0.01
    ) -> None:
        super().__init__()
        if not isinstance(layer_norm, nn.LayerNorm):
            raise LiquidError(
                f"layer_norm must be a torch.nn.LayerNorm over the H features, not {layer_norm!r}"
            )
        if not decay_factor > 0 or not adaptive_factor >= 0:
            raise LiquidError(
                f"decay_factor is {decay_factor} and adaptive_factor is {adaptive_factor}: give decay_factor"
                " > 0 and adaptive_factor ≥ 0, so that the state stays bounded"
            )
        self.layer_norm = layer_norm
        self.decay_factor, self.adaptive_factor = decay_factor, adaptive_factor
        self.mix_logit = nn.Parameter(
            torch.zeros(1)
        )  # α = σ(mix_logit); not a scalar: FSDP2 does not accept scalars

    def forward(self, t: Float[Tensor, ""] | float, e: Float[Tensor, "... h"]) -> Float[Tensor, "... h"]:
        """de/dt at e (…, H). It does not depend on t, which ODE solvers pass."""
        u = self._normalised(e)
        drive = torch.lerp(u.tanh(), F.gelu(u), self.mix_logit.to(e).sigmoid())
        size = torch.linalg.vector_norm(e, dim=-1, keepdim=True) / e.shape[-1] ** 0.5
        return torch.addcmul(drive, self.decay_factor * (1 + self.adaptive_factor * size), e, value=-1)

    def _normalised(self, e: Float[Tensor, "... h"]) -> Float[Tensor, "... h"]:
        """LN(e) in the precision of e, also if the weights are stored in a lower one."""
        norm = self.layer_norm
        with at_hand(norm):
            weight, bias = (None if p is None else p.to(e) for p in (norm.weight, norm.bias))
        return F.layer_norm(e, norm.normalized_shape, weight, bias, norm.eps)


def integrate(
    func: Callable[[Tensor, Tensor], Tensor],
    e0: Float[Tensor, "*shape"],
    t_span: Tensor,
    method: str = "rk4",
    **options: Any,
) -> Float[Tensor, "*shape"]:
    """The solution of de/dt = func(t, e), e(t_span[0]) = e0, at the last time of t_span.

    Gradients flow through the steps of the solver. Computed in float32, or in float64 for a float64 e0, also
    under autocast. The result has that type.

    Args:
        func: the vector field, called as func(t, e).
        e0: the state at the first time, of any shape.
        t_span: at least two strictly increasing times, 1-D. A fixed-step method takes exactly these steps.
            They must be short compared with the time constants of the field. An adaptive method chooses its
            own steps between the first and the last time, for e0 as a whole: a row then depends on the other
            rows, within the tolerance.
        method: of torchdiffeq: "rk4" has fixed steps (the 3/8 rule, order 4), "dopri5" is adaptive.
        options: for `torchdiffeq.odeint`, such as rtol and atol (default 1e-5 and 1e-6).

    Raises:
        LiquidError: a t_span of another form, or an unknown method.

    Example:
        >>> e = integrate(lambda t, e: -e, torch.ones(1), torch.linspace(0, 1, 11))
        >>> torch.testing.assert_close(e, torch.tensor([1 / torch.e]))
    """
    check_method(method)
    if t_span.ndim != 1 or len(t_span) < 2:
        raise LiquidError(
            f"t_span has shape {tuple(t_span.shape)}: give at least two times in one dimension, such as"
            " torch.linspace(0, 1, 5)"
        )
    times = t_span if t_span.is_floating_point() else in_float64(t_span)
    times = times.to(e0.device, torch.promote_types(times.dtype, torch.float32))
    wrong = ~(times.isfinite().all() & (times.diff() > 0).all())
    if fails(wrong, "t_span must be finite and strictly increasing"):
        raise LiquidError(f"t_span must be finite and strictly increasing, not {t_span.tolist()}")
    with full_precision(e0) as e0:
        if method == "rk4" and not options:
            return _rk4(func, e0, times)
        from torchdiffeq import odeint  # with scipy it takes 43 MB, and most models need it never

        # odeint gets the grid separately from the two ends, so that it does not keep the states in between.
        grid = {"grid_constructor": lambda func, e0, ends: times} if method in FIXED_STEP else {}
        defaults = {"rtol": 1e-5, "atol": 1e-6, "options": grid}
        states: Any = odeint(func, e0, times[[0, -1]], method=method, **(defaults | options))
        return states[-1]


def _rk4(
    func: Callable[[Tensor, Tensor], Tensor], e: Float[Tensor, "*shape"], times: Float[Tensor, " n"]
) -> Float[Tensor, "*shape"]:
    """torchdiffeq's "rk4", the 3/8 rule, to the bit. Its own checks of the times cannot be traced."""
    third, two_thirds = 1 / 3, 2 / 3
    for i in range(len(times) - 1):
        t, after = times[i], times[i + 1]
        dt = after - t
        k1 = func(t.to(e.dtype), e)
        k2 = func((t + dt * third).to(e.dtype), e + dt * k1 * third)
        k3 = func((t + dt * two_thirds).to(e.dtype), e + dt * (k2 - k1 * third))
        k4 = func(after.to(e.dtype), e + dt * (k1 - k2 + k3))
        e = e + (k1 + 3 * (k2 + k3) + k4) * dt * 0.125
    return e
