"""Normalizing flows: bijections with a known log-determinant."""

from .coupling import CouplingNets, SharedAffineCouplingLayer
from .reduction import HouseholderMixing, OptimizedFlowDimensionalityReduction

__all__ = [
    "CouplingNets",
    "HouseholderMixing",
    "OptimizedFlowDimensionalityReduction",
    "SharedAffineCouplingLayer",
]
