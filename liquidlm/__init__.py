"""liquidlm: language models in continuous time.

Every token is an event with a time. Between events the state relaxes by a liquid ODE. An event writes to the
state. Both steps have exact closed forms, so the model trains in parallel over time, and reads and writes at
constant cost and memory per token.

Importing the package registers the model with transformers' Auto classes. Every name below is imported when
it is first used.
"""

from .runtime import startup as startup  # before all others: from here on, Ctrl-C is silent

# isort: split
from importlib import import_module
from typing import TYPE_CHECKING

from .model.registration import register

if TYPE_CHECKING:
    from .errors import LiquidError
    from .model.config import LiquidConfig
    from .model.output import LiquidModelOutput, LiquidOutput
    from .model.pretrained import LiquidModel, LiquidTextGenerationModel
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

_MODULES = {
    "errors": ("LiquidError",),
    "model.config": ("LiquidConfig",),
    "model.output": ("LiquidModelOutput", "LiquidOutput"),
    "model.pretrained": ("LiquidModel", "LiquidTextGenerationModel"),
    "nn.cells": (
        "AdaptiveLiquidNeuron",
        "AsyncLiquidCell",
        "ImprovedLiquidTimeCell",
        "LiquidNeuron",
        "NonlinearMixer",
        "TimeMixer",
    ),
    "nn.embedding": ("OptimizedLiquidEmbeddingMFR",),
    "nn.flows": ("OptimizedFlowDimensionalityReduction", "SharedAffineCouplingLayer"),
    "nn.ode": ("ODEFunc",),
    "nn.state": ("CellState", "LiquidCache"),
    "nn.timestamps": ("generate_timestamps",),
    "text.tokenizer": ("LEDTokenizerWrapper",),
}


def __getattr__(name: str) -> object:
    """A public name, imported from its module when it is first used (PEP 562)."""
    for module, names in _MODULES.items():
        if name in names:
            globals()[name] = value = getattr(import_module(f".{module}", __name__), name)
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


register()
