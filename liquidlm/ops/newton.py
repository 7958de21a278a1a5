"""The nonlinear neuron over a sequence, parallel over time: Newton iterations on all states at once.

    h_i = F_i(h_{i−1})  for every i,    D_i = the diagonal of ∂F_i/∂h, within −1…1

A step of Newton's method replaces F by its tangent at the states so far, which is a linear recurrence. With D
in place of the whole Jacobian it is diagonal, and `liquid_scan` solves it:

    h_i ← F_i(h_{i−1}) + D_i ⊙ (new h_{i−1} − h_{i−1})

Whatever D is, the first k states are exact after k iterations, and a fixed point is the solution. Far fewer
iterations are enough where a state soon forgets the ones before it (Danieli et al. 2025, "ParaRNN",
arXiv:2510.21450; Gonzalez et al. 2024, "Towards Scalable and Stable Parallelization of Nonlinear RNNs",
arXiv:2407.19115).
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from ..errors import LiquidError
from .function import in_own_precision
from .reference import liquid_relax_reference, nonlinear_relax_reference
from .scan import following, scan

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}
"""How large the last step of the iterations may be, relative to the largest number of the result."""
ITERATIONS = 100


def nonlinear_relax_newton(
    encoded: Float[Tensor, "b t c"],
    synapse: Float[Tensor, "b t two_h"],
    of_state: Float[Tensor, "c h"],
    of_context: Float[Tensor, "two_h c"],
    leak: Float[Tensor, " h"],
    duration: Float[Tensor, "b t"],
    pace: Float[Tensor, " h"],
    h0: Float[Tensor, "b h"],
    start: Bool[Tensor, "b t"] | None = None,
    tolerance: float | None = None,
    iterations: int = ITERATIONS,
) -> Float[Tensor, "b t h"]:
    """`nonlinear_relax_reference` up to a tolerance, in parallel over time.

    The gradients are those of the solution, by the implicit function theorem: their recurrence, from the last
    event to the first, is linear. The same iterations solve it.

    Args:
        encoded, synapse, of_state, of_context, leak, duration, pace, h0, start: see
            `nonlinear_relax_reference`.
        tolerance: how large the last step may be, relative to the largest number of the result; None: as in
            `TOLERANCE`.
        iterations: how many are tried. As many as there are events are always enough.

    Raises:
        LiquidError: the last step is larger than that, in the forward or in the backward pass.
    """
    size = TOLERANCE[leak.dtype] if tolerance is None else tolerance
    inputs = (encoded.to(leak.dtype), synapse.to(leak.dtype), of_state, of_context, leak, duration, pace)
    with torch.autocast(synapse.device.type, enabled=False):
        h, diagonal = _solution(inputs, h0, start, size, iterations)
        if not torch.is_grad_enabled() or not any(x.requires_grad for x in (*inputs, h0)):
            return h
        inner = h[:, :-1].requires_grad_()
        after = _after(inputs, _before(h0, inner, start))

    def through(grad: Tensor) -> Tensor:  # what the gradient of each state gives to the state before it
        return F.pad(torch.autograd.grad(after, inner, grad, retain_graph=True)[0], (0, 0, 0, 1))

    def adjoint(grad: Tensor) -> Tensor:
        def residual(x: Tensor) -> Tensor:
            return grad + through(x) - x

        decay = following(diagonal, torch.empty_like(diagonal))
        return _iterate(grad.clone(), lambda x: (residual(x), decay), True, size, iterations)

    return _Implicit.apply(after, adjoint)  # pyright: ignore[reportReturnType]


class _Implicit(torch.autograd.Function):
    """States that are a fixed point of the events: a gradient is replaced by the solution of its adjoint."""

    @staticmethod
    def forward(ctx: FunctionCtx, after: Tensor, adjoint: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.adjoint = adjoint  # pyright: ignore[reportAttributeAccessIssue]
        return after.view_as(after)

    @staticmethod
    @once_differentiable
    @in_own_precision
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return ctx.adjoint(grad), None  # pyright: ignore[reportAttributeAccessIssue]


@torch.no_grad()
def _solution(
    inputs: tuple[Tensor, ...], h0: Tensor, start: Tensor | None, tolerance: float, iterations: int
) -> tuple[Tensor, Tensor]:
    """Every state, and the diagonal of the Jacobian at the states of the last iteration."""
    of_state, of_context = inputs[2:4]
    # Row j, column c: what context c, which unit j moves, does to the synapse of unit j.
    pairs = of_context * of_state.mT.repeat(2, 1)
    diagonal = h0

    def linearised(h: Tensor) -> tuple[Tensor, Tensor]:
        nonlocal diagonal
        after, diagonal = _tangent(inputs, pairs, _before(h0, h[:, :-1], start))
        if start is not None:
            diagonal = diagonal.masked_fill(start[..., None], 0.0)
        return after - h, diagonal

    h = h0.new_zeros(*inputs[1].shape[:2], h0.shape[1])
    return _iterate(h, linearised, False, tolerance, iterations), diagonal


def _iterate(
    x: Tensor,
    linearised: Callable[[Tensor], tuple[Tensor, Tensor]],
    reverse: bool,
    tolerance: float,
    iterations: int,
) -> Tensor:
    """Steps of Newton's method from x.

    Args:
        x: (B, T, H).
        linearised: x ▶ what each event misses at x, and the decays of the recurrence that a step solves.
        reverse: the recurrence goes from the last event to the first.
        tolerance, iterations: see `nonlinear_relax_newton`.
    """
    for _ in range(iterations):
        missing, decay = linearised(x)
        step = torch.empty_like(x)
        scan(decay.clone(), missing, torch.zeros_like(x[:, 0]), out=step, reverse=reverse)
        x = x + step
        if step.abs().amax() <= tolerance * x.abs().amax():
            return x
    raise LiquidError(
        f"the Newton iterations did not converge within {tolerance:g} in {iterations} steps: choose the loop"
        ' over events, solver="exponential_euler", or a larger tolerance'
    )


def _before(h0: Tensor, inner: Tensor, start: Tensor | None) -> Tensor:
    """The state before every event, from that before the first and all but the last."""
    before = torch.cat([h0[:, None], inner], 1)
    return before if start is None else before.masked_fill(start[..., None], 0.0)


def _after(inputs: tuple[Tensor, ...], before: Tensor) -> Tensor:
    """The state after every event, all events at once: each is a row of one event."""
    encoded, synapse, of_state, of_context, leak, duration, pace = inputs
    rows = (encoded.flatten(0, 1)[:, None], synapse.flatten(0, 1)[:, None])
    rest = (leak, duration.flatten()[:, None], pace, before.flatten(0, 1))
    return nonlinear_relax_reference(*rows, of_state, of_context, *rest).view_as(before)


def _tangent(inputs: tuple[Tensor, ...], pairs: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
    """The state after every event, and how each unit of it depends on the same unit before it."""
    encoded, synapse, of_state, of_context, leak, duration, pace = inputs
    seen = before.tanh()
    z = encoded + seen @ of_state.mT
    gate = z.sigmoid()
    felt = (synapse + (z * gate) @ of_context.mT).flatten(0, 1)[:, None].requires_grad_()
    held = before.flatten(0, 1).requires_grad_()
    with torch.enable_grad():
        after = liquid_relax_reference(felt, leak, duration.flatten()[:, None], pace, held)
        of_felt, of_held = torch.autograd.grad(after.sum(), (felt, held))  # a unit depends on its own only
    slope = (gate * (1 + z * (1 - gate))) @ pairs.mT * (1 - seen * seen).repeat(1, 1, 2)
    through_context = (of_felt.view_as(slope) * slope).unflatten(-1, (2, -1)).sum(-2)
    return after.detach().view_as(before), (of_held.view_as(before) + through_context).clamp(-1, 1)
