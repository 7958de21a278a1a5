"""Normalizing flows: bijections whose log-determinant is known (Dinh et al. 2017, arXiv:1605.08803)."""

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
