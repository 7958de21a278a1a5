"""Optimisers and their learning-rate schedule: Muon for the matrices of the blocks, AdamW for the rest."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import AdamW, Optimizer

from ..errors import LiquidError
from ..model.pretrained import LiquidTextGenerationModel
from ..runtime.precision import bf16_is_faster
from .groups import ADAM, parameter_groups
from .muon import Muon
from .processes import full_tensor, sharded_like
from .sharded_muon import ShardedMuon


class Optimisers:
    """Several optimisers with one learning-rate schedule: linear warm-up, linear decay.

        factor = min(1, (step + 1) / warmup) · (1 − progress)

    `progress` is the fraction of the run that is done, in steps or in time.

    Args:
        parts: pairs of an optimiser and its peak learning rate.
        warmup: number of steps over which the learning rates rise.

    Example:
        >>> sgd = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
        >>> optimisers = Optimisers([(sgd, 1.0)], warmup=4)
        >>> [optimisers.step(step, progress=0.0) for step in range(5)]
        [0.25, 0.5, 0.75, 1.0, 1.0]
    """

    def __init__(self, parts: list[tuple[Optimizer, float]], warmup: int = 30):
        self.parts, self.warmup = parts, warmup

    def step(self, step: int, progress: float) -> float:
        """Update all parameters and delete their gradients.

        Args:
            step: number of steps so far.
            progress: fraction of the run that is done, from 0 to 1.

        Returns:
            the factor of the schedule.
        """
        factor = min(1.0, (step + 1) / self.warmup) * max(0.0, 1.0 - progress)
        for optimiser, peak in self.parts:
            for group in optimiser.param_groups:
                group["lr"] = peak * factor
            optimiser.step()
        self.drop_gradients()
        return factor

    def drop_gradients(self) -> None:
        """Delete the gradients of all parameters."""
        for optimiser, _ in self.parts:
            optimiser.zero_grad(set_to_none=True)

    def tensors(self) -> dict[str, Tensor]:
        """The state of all optimisers as unsharded tensors by name, for safetensors."""
        return {
            f"{number}.{index}.{name}": full_tensor(value).contiguous()
            for number, (optimiser, _) in enumerate(self.parts)
            for index, slots in optimiser.state_dict()["state"].items()
            for name, value in slots.items()
        }

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Restore a state that `tensors` returned.

        Raises:
            IndexError: the state has more parameters than the optimisers.
            ValueError: a tensor has another shape than its parameter.
        """
        for number, (optimiser, _) in enumerate(self.parts):
            sharded = isinstance(
                optimiser, ShardedMuon
            )  # its groups hold only the matrices that this process updates
            groups = [optimiser.matrices] if sharded else [g["params"] for g in optimiser.param_groups]
            trained = [parameter for group in groups for parameter in group]
            state: dict[int, dict[str, Tensor]] = {}
            for key, value in tensors.items():
                part, index, name = key.split(".")
                if int(part) == number:
                    parameter = trained[int(index)]
                    if value.ndim and value.shape != parameter.shape:
                        raise ValueError(f"{key} is {tuple(value.shape)}, not {tuple(parameter.shape)}")
                    own = value if sharded else sharded_like(value, parameter)
                    state.setdefault(int(index), {})[name] = own
            optimiser.load_state_dict({**optimiser.state_dict(), "state": state})


def muon_and_adamw(
    matrices: Iterable[Tensor],
    others: Iterable[Tensor],
    lr: float = 0.02,
    weight_decay: float = 0.1,
    adam_share: float = 0.15,
    warmup: int = 30,
    bf16: bool | None = None,
) -> Optimisers:
    """Muon (Keller Jordan et al. 2024) for `matrices`, AdamW (arXiv 1711.05101) for the other parameters.

    Args:
        matrices: two-dimensional parameters, all of them sharded or none.
        others: the other parameters.
        lr: peak learning rate of Muon.
        weight_decay: weight decay of the matrices; the others have none.
        adam_share: peak learning rate of AdamW, as a fraction of `lr`.
        warmup: number of steps over which the learning rates rise.
        bf16: whether Muon iterates in bfloat16. None: only if bfloat16 is faster on this machine, which is
            measured in about 0.1 s.

    Raises:
        LiquidError: the learning rate is not between 0 and 10.
    """
    if not 0 < lr < 10:
        raise LiquidError(f"the learning rate {lr} is not between 0 and 10: start with 0.02")
    matrices = list(matrices)
    sharded = [matrix for matrix in matrices if isinstance(matrix, DTensor)]
    if bf16 is None:
        bf16 = bf16_is_faster(matrices[0].device)
    options: dict[str, Any] = {"lr": lr, "weight_decay": weight_decay, "momentum": 0.95, "bf16": bf16}
    muon = ShardedMuon(sharded, **options) if sharded else Muon(matrices, **options)
    adamw = AdamW(others, lr=lr * adam_share, **ADAM)
    return Optimisers([(muon, lr), (adamw, lr * adam_share)], warmup)


def liquid_optimisers(
    model: LiquidTextGenerationModel,
    lr: float = 0.02,
    weight_decay: float = 0.1,
    warmup: int = 30,
    bf16: bool | None = None,
) -> Optimisers:
    """The optimisers of a language model.

    Muon trains the linear layers of the blocks. AdamW trains the other parameters: vectors, embedding, output
    layer, and the layers that set time constants. Its learning rate is higher for the parameters in `FAST`,
    and for the embedding table and the output layer of a large vocabulary.

    Args:
        model: the model, sharded or not.
        lr, weight_decay, warmup, bf16: see `muon_and_adamw`.
    """
    groups = parameter_groups(model)
    optimisers = muon_and_adamw(groups.matrices, groups.others, lr, weight_decay, warmup=warmup, bf16=bf16)
    slow = optimisers.parts[-1][1]
    for parameters, share in groups.quick:
        adamw = AdamW(parameters, lr=slow * share, **ADAM)
        optimisers.parts.append((adamw, slow * share))
    return optimisers


def clip_gradients(parameters: Iterable[nn.Parameter], limit: float = 1.0) -> float:
    """Scale the gradients down so that their total norm is at most `limit`; returns the norm before.

    >>> parameter = nn.Parameter(torch.zeros(2))
    >>> parameter.grad = torch.tensor([3.0, 4.0])
    >>> clip_gradients([parameter]), parameter.grad.norm().round(decimals=3).item()
    (5.0, 1.0)
    """
    return full_tensor(torch.nn.utils.clip_grad_norm_(parameters, limit)).item()
