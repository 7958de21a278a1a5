"""Normalizing flows: bijections with a known log-determinant."""

from .coupling import CouplingNets, SharedAffineCouplingLayer
from .loss import discarded_fraction, flow_loss, sampled_flow_loss
from .reduction import HouseholderMixing, OptimizedFlowDimensionalityReduction

__all__ = [
    "CouplingNets",
    "HouseholderMixing",
    "OptimizedFlowDimensionalityReduction",
    "SharedAffineCouplingLayer",
    "discarded_fraction",
    "flow_loss",
    "sampled_flow_loss",
]
