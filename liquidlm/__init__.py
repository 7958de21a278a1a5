"""liquidlm: language models in continuous time.

Every token is an event with a time. Between events the state relaxes by a liquid ODE, at an event it is
written to; both have exact closed forms, so the model trains in parallel over time, and reads and writes at
constant cost and memory per token.

Importing the package registers the model with transformers' Auto classes.
"""

from . import startup as startup  # before the others, which take seconds
from .body import LiquidModel
from .cells import (
    AdaptiveLiquidNeuron,
    AsyncLiquidCell,
    ImprovedLiquidTimeCell,
    LiquidNeuron,
    NonlinearMixer,
    TimeMixer,
)
from .config import LiquidConfig
from .embedding import OptimizedLiquidEmbeddingMFR
from .errors import LiquidError
from .flows import OptimizedFlowDimensionalityReduction, SharedAffineCouplingLayer
from .model import LiquidTextGenerationModel
from .ode import ODEFunc
from .output import LiquidModelOutput, LiquidOutput
from .state import CellState, LiquidCache
from .timestamps import generate_timestamps
from .tokenizer import LEDTokenizerWrapper

__version__ = "0.1.0"

__all__ = [
    "AdaptiveLiquidNeuron",
    "AsyncLiquidCell",
    "CellState",
    "ImprovedLiquidTimeCell",
    "LEDTokenizerWrapper",
    "LiquidCache",
    "LiquidConfig",
    "LiquidError",
    "LiquidModel",
    "LiquidModelOutput",
    "LiquidNeuron",
    "LiquidOutput",
    "LiquidTextGenerationModel",
    "NonlinearMixer",
    "ODEFunc",
    "OptimizedFlowDimensionalityReduction",
    "OptimizedLiquidEmbeddingMFR",
    "SharedAffineCouplingLayer",
    "TimeMixer",
    "generate_timestamps",
]
