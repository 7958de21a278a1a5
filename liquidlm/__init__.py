"""liquidlm: language models in continuous time.

Every token is an event with a time. Between events the state relaxes by a liquid ODE, at an event it is
written to; both have exact closed forms, so the model trains in parallel over time, and reads and writes at
constant cost and memory per token.

Importing the package registers the model with transformers' Auto classes.
"""

from .errors import LiquidError
from .model.body import LiquidModel
from .model.config import LiquidConfig
from .model.language_model import LiquidTextGenerationModel
from .model.output import LiquidModelOutput, LiquidOutput
from .nn.cells import (
    AdaptiveLiquidNeuron,
    AsyncLiquidCell,
    ImprovedLiquidTimeCell,
    LiquidNeuron,
    NonlinearMixer,
    TimeMixer,
)
from .nn.embedding import OptimizedLiquidEmbeddingMFR
from .nn.flows import OptimizedFlowDimensionalityReduction, SharedAffineCouplingLayer
from .nn.ode import ODEFunc
from .nn.state import CellState, LiquidCache
from .nn.timestamps import generate_timestamps
from .runtime import startup as startup  # before the others, which take seconds
from .text.tokenizer import LEDTokenizerWrapper

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
