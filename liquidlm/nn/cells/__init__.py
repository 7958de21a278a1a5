"""The liquid cells, from the neuron to the mixers over events.

Read them in this order: `decay.py` (where a gap becomes a decay), `neuron.py` (the ODE), `time_cell.py` (its
clock), `time_mixer.py` (a layer over events), `async_cell.py` (with a matrix memory), `nonlinear_mixer.py`
(nonlinear in its state).
"""

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
