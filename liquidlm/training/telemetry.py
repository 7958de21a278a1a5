"""What is worth watching in a training beside its loss: gradients by part, and where time constants go."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..model.pretrained import LiquidTextGenerationModel
from ..nn.cells.neuron import LiquidNeuron
from .processes import whole


def gradient_norms(model: LiquidTextGenerationModel) -> dict[str, float]:
    """The norm of each part's gradient: embedding stage, blocks, last norm, output layer (a tied table's
    in both)."""
    return {
        f"gradient/{name}": whole(
            torch.nn.utils.get_total_norm([p.grad for p in part.parameters() if p.grad is not None])
        ).item()
        for name, part in _parts(model)
    }


def time_constants(model: LiquidTextGenerationModel) -> dict[str, Float[Tensor, " h"]]:
    """Per block log₁₀ of `LiquidNeuron.resting_time_constants`, in gaps."""
    found = {}
    for name, part in _parts(model):
        for neuron in part.modules():
            if isinstance(neuron, LiquidNeuron):
                constants = neuron.resting_time_constants().detach()
                found[f"log10_time_constant/{name}"] = constants.log10()
    return found


def _parts(model: LiquidTextGenerationModel) -> list[tuple[str, nn.Module]]:
    """The model's children, its blocks one by one."""
    blocks = [(f"block {number}", block) for number, block in enumerate(model.blocks)]
    return [*blocks, *((name, part) for name, part in model.named_children() if name != "blocks")]
