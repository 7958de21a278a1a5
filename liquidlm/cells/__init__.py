"""The liquid cells, from the neuron to the mixer over events."""

from .async_cell import AsyncLiquidCell
from .neuron import AdaptiveLiquidNeuron, LiquidNeuron
from .time_cell import ImprovedLiquidTimeCell
from .time_mixer import TimeMixer

__all__ = ["AdaptiveLiquidNeuron", "AsyncLiquidCell", "ImprovedLiquidTimeCell", "LiquidNeuron", "TimeMixer"]
