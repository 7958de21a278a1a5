"""Figures of a training run besides its loss: gradient norms and time constants."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..model.pretrained import LiquidTextGenerationModel
from ..nn.cells.neuron import LiquidNeuron
from .processes import full_tensor


def gradient_norms(model: LiquidTextGenerationModel) -> dict[str, float]:
    """The gradient norm of each part of the model: embedding, each block, last norm, output layer.

    The gradient of a tied embedding counts in two parts: embedding and output layer.
    """
    return {
        f"gradient/{name}": full_tensor(
            torch.nn.utils.get_total_norm([p.grad for p in part.parameters() if p.grad is not None])
        ).item()
        for name, part in _parts(model)
    }


def time_constants(model: LiquidTextGenerationModel) -> dict[str, Float[Tensor, " h"]]:
    """For each block: log₁₀ of `LiquidNeuron.resting_time_constants`, with time constants in gaps."""
    found = {}
    for name, part in _parts(model):
        for neuron in part.modules():
            if isinstance(neuron, LiquidNeuron):
                constants = neuron.resting_time_constants().detach()
                found[f"log10_time_constant/{name}"] = constants.log10()
    return found


def _parts(model: LiquidTextGenerationModel) -> list[tuple[str, nn.Module]]:
    """The children of the model, with each block as one part."""
    blocks = [(f"block {number}", block) for number, block in enumerate(model.blocks)]
    return [*blocks, *((name, part) for name, part in model.named_children() if name != "blocks")]
