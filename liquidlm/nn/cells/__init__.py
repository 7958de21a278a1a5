"""The liquid cells, from the neuron to the mixer over events."""

from .async_cell import AsyncLiquidCell
from .neuron import AdaptiveLiquidNeuron, LiquidNeuron
from .nonlinear_mixer import NonlinearMixer
from .time_cell import ImprovedLiquidTimeCell
from .time_mixer import TimeMixer

__all__ = [
    "AdaptiveLiquidNeuron",
    "AsyncLiquidCell",
    "ImprovedLiquidTimeCell",
    "LiquidNeuron",
    "NonlinearMixer",
    "TimeMixer",
]
