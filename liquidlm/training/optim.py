"""Optimisers and their schedule: Muon for the blocks' matrices, AdamW for the rest."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import AdamW, Optimizer

from ..errors import LiquidError
from ..model.config import LETTERS
from ..model.pretrained import LiquidTextGenerationModel
from ..runtime.precision import bf16_is_faster
from .muon import Muon
from .processes import sharded_like, whole
from .sharded_muon import ShardedMuon

ADAM_BETAS = (0.9, 0.98)
RATES = ("rates", "warp")
"""Linear layers that set time constants: AdamW's."""
TIME_HEAD = ("of_state.weight", "of_state.bias", "of_next.weight")
FAST = ("log_tau", "synapse.bias", "ngrams.table.weight", *TIME_HEAD)
"""What sets time constants, on a logarithmic scale; tables of which a step sees few rows; and the time head,
to which few tokens of a step have a gap to show: AdamW's, at a rate of their own."""
FAST_SHARE = 10.0
"""That rate over the others': slow units have five decades to go, and what is rare few steps."""
TABLE_SHARE = 40.0
"""The same of the embedding's table where tokens are words or parts of them, and a step sees few of its rows,
or where it is the output layer too: its rows are N(0, 1), larger than other vectors."""
OUTPUT_SHARE = 4.0
"""The same of an output layer of its own for such a vocabulary. Of bytes, untied, both learn as the rest."""


class Optimisers:
    """Several optimisers on one schedule: learning rate × min(1, step/warmup) × (1 − progress), where
    `progress` is the part of the run, in steps or in time, that is done.

    Args:
        parts: optimisers, each with its peak learning rate.
    """

    def __init__(self, parts: list[tuple[Optimizer, float]], warmup: int = 30):
        self.parts, self.warmup = parts, warmup

    def step(self, step: int, progress: float) -> float:
        """Update all parameters and drop the gradients; returns the schedule's factor."""
        factor = min(1.0, (step + 1) / self.warmup) * max(0.0, 1.0 - progress)
        for optimiser, peak in self.parts:
            for group in optimiser.param_groups:
                group["lr"] = peak * factor
            optimiser.step()
        self.drop_gradients()
        return factor

    def drop_gradients(self) -> None:
        for optimiser, _ in self.parts:
            optimiser.zero_grad(set_to_none=True)

    def tensors(self) -> dict[str, Tensor]:
        """The optimisers' state by name, whole, for safetensors."""
        return {
            f"{number}.{index}.{name}": whole(value).contiguous()
            for number, (optimiser, _) in enumerate(self.parts)
            for index, slots in optimiser.state_dict()["state"].items()
            for name, value in slots.items()
        }

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Go on from what `tensors` gave; an IndexError or ValueError where that has more parameters or other
        shapes."""
        for number, (optimiser, _) in enumerate(self.parts):
            sharded = isinstance(optimiser, ShardedMuon)  # its groups hold but what this process updates
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
    """Muon (Jordan et al. 2024) for `matrices`, AdamW for the rest.

    Args:
        lr: Muon's peak learning rate; AdamW's is `adam_share` of it.
        weight_decay: of the matrices; the others have none.
        warmup: steps over which the learning rates rise.
        bf16: whether Muon iterates in bfloat16; None: where the machine is faster with it (measured, 0.1 s).
    """
    if not 0 < lr < 10:
        raise LiquidError(f"the learning rate must be over 0 and sensible, not {lr}; 0.02 is a good start")
    matrices = list(matrices)
    sharded = [matrix for matrix in matrices if isinstance(matrix, DTensor)]
    if bf16 is None:
        bf16 = bf16_is_faster(matrices[0].device)
    options: dict[str, Any] = {"lr": lr, "weight_decay": weight_decay, "momentum": 0.95, "bf16": bf16}
    muon = ShardedMuon(sharded, **options) if sharded else Muon(matrices, **options)
    adamw = AdamW(others, lr=lr * adam_share, betas=ADAM_BETAS, weight_decay=0.0)
    return Optimisers([(muon, lr), (adamw, lr * adam_share)], warmup)


def liquid_optimisers(
    model: LiquidTextGenerationModel,
    lr: float = 0.02,
    weight_decay: float = 0.1,
    warmup: int = 30,
    bf16: bool | None = None,
) -> Optimisers:
    """Muon for the linear layers of the blocks; AdamW for vectors, embedding, output layer and rates, and at
    higher rates for the neurons' time constants, the n-grams' tables and the time head, and of a large
    vocabulary the embedding's table and the output layer."""
    matrices = [
        module.weight
        for name, module in model.blocks.named_modules()
        if isinstance(module, nn.Linear) and name.split(".")[-1] not in RATES
    ]
    fast = [p for name, p in model.named_parameters() if name.endswith(FAST)]
    words, tied = model.config.vocab_size > LETTERS, model.config.tie_word_embeddings
    table = [model.embedding.embedding.weight] if words or tied else []
    output = list(model.output_proj.parameters()) if words and not tied else []
    quick = [(table, TABLE_SHARE), (output, OUTPUT_SHARE), (fast, FAST_SHARE)]
    chosen = {id(p) for some in (matrices, *(parameters for parameters, _ in quick)) for p in some}
    others = [p for p in model.parameters() if id(p) not in chosen]
    optimisers = muon_and_adamw(matrices, others, lr, weight_decay, warmup=warmup, bf16=bf16)
    slow = optimisers.parts[-1][1]
    for parameters, share in quick:
        if parameters:
            adamw = AdamW(parameters, lr=slow * share, betas=ADAM_BETAS, weight_decay=0.0)
            optimisers.parts.append((adamw, slow * share))
    return optimisers


def clip_gradients(parameters: Iterable[nn.Parameter], limit: float = 1.0) -> float:
    """Scale the gradient down to norm `limit`; returns the norm it had."""
    return whole(torch.nn.utils.clip_grad_norm_(parameters, limit)).item()
