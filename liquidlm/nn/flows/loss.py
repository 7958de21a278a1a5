"""The training term of a flow that reduces dimensions: the discarded share and the change of volumes."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ...runtime.precision import full_precision
from .reduction import OptimizedFlowDimensionalityReduction

MAX_ROWS = 1024
"""`sampled_flow_loss` computes the term from at most this many rows, drawn at random in each call."""


def discarded_fraction(
    flow: OptimizedFlowDimensionalityReduction, x: Float[Tensor, "n e"], z: Float[Tensor, "n z"]
) -> Float[Tensor, ""]:
    """Σ‖x − f⁻¹(z, r̄)‖² / Σ‖x‖²: the share of x that z does not hold; 0 where every r equals its mean r̄.

    The distance is measured in the space of x. The sizes of r and z would not be a good measure: the flow
    could shrink r and move z away from the origin, and still lose the tokens.

    Args:
        flow: f.
        x: (N, E) rows.
        z: (N, Z) the same rows, reduced by the flow.
    """
    with full_precision(x) as x:
        return (x - flow.inverse(z)).square().sum() / x.square().sum()


def flow_loss(
    flow: OptimizedFlowDimensionalityReduction,
    x: Float[Tensor, "n e"],
    z: Float[Tensor, "n z"],
    log_det: Float[Tensor, " n"],
) -> Float[Tensor, ""]:
    """`discarded_fraction` + mean (log|det|/E)², for (z, log|det|) = flow(x).

    The first part moves the information into z. The second part keeps volumes nearly constant.

    Args:
        flow: f.
        x: (N, E) rows.
        z, log_det: flow(x).

    Example:
        >>> flow = OptimizedFlowDimensionalityReduction(8, 8)
        >>> x = torch.randn(5, 8)
        >>> z, log_det = flow(x)
        >>> bool(discarded_fraction(flow, x, z) < 1e-6)  # z has all 8 dimensions: nothing is lost
        True
        >>> flow_loss(flow, x, z, log_det).shape
        torch.Size([])
    """
    return discarded_fraction(flow, x, z) + (log_det / flow.original_dim).square().mean()


def sampled_flow_loss(
    flow: OptimizedFlowDimensionalityReduction,
    x: Float[Tensor, "n e"],
    z: Float[Tensor, "n z"],
    log_det: Float[Tensor, " n"],
    rows: Int[Tensor, " m"],
) -> Float[Tensor, ""]:
    """`flow_loss` of the given rows, or of MAX_ROWS of them, drawn at random; 0 without rows."""
    if len(rows) > MAX_ROWS:
        rows = rows[torch.randperm(len(rows), device=rows.device)[:MAX_ROWS]]
    return flow_loss(flow, x[rows], z[rows], log_det[rows]) if len(rows) else 0.0 * z.sum()
