"""One layer of the model: a time mixer, then a gated MLP, each beside a residual stream.

Symbols: B batch, T tokens, H hidden.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from ..nn.cells import AsyncLiquidCell, NonlinearMixer, TimeMixer
from ..nn.events import Events
from ..nn.norm import Norm
from ..nn.state import CellState
from .config import LiquidConfig


class GatedMLP(nn.Module):
    """down(silu(gate x) ⊙ up x) (Shazeer 2020)."""

    def __init__(self, hidden_size: int, intermediate_size: int):
        super().__init__()
        self.gate = nn.Linear(hidden_size, intermediate_size, bias=False)
        self.up = nn.Linear(hidden_size, intermediate_size, bias=False)
        self.down = nn.Linear(intermediate_size, hidden_size, bias=False)

    def forward(self, x: Float[Tensor, "*b h"]) -> Float[Tensor, "*b h"]:
        return self.down(F.silu(self.gate(x)) * self.up(x))


class LiquidBlock(nn.Module):
    """x + out(mixer(norm x, time)); then x + MLP(norm x)."""

    def __init__(self, config: LiquidConfig, kind: str):
        super().__init__()
        width, rate = config.hidden_size, config.dropout_rate
        shared = {"conv_width": config.conv_width, "time_scale": config.time_scale}
        self.mixer_norm = Norm(width, config.norm_eps)
        if kind == "memory":
            heads = {
                "num_heads": config.num_heads,
                "num_writes": config.num_writes,
                "chunk_size": config.chunk_size,
            }
            self.mixer: TimeMixer = AsyncLiquidCell(width, rate, **heads, **shared)
        else:
            self.mixer = (NonlinearMixer if kind == "nonlinear" else TimeMixer)(width, rate, **shared)
        self.out = nn.Linear(width, width, bias=False)
        self.mlp_norm = Norm(width, config.norm_eps)
        self.mlp = GatedMLP(width, cast(int, config.intermediate_size))
        self.dropout = nn.Dropout(rate)
        with torch.no_grad():  # the residual stream keeps its scale, however deep
            for last in (self.out, self.mlp.down):
                last.weight.mul_((2 * config.num_hidden_layers) ** -0.5)

    def forward(
        self, x: Float[Tensor, "b t h"], events: Events, state: CellState
    ) -> tuple[Float[Tensor, "b t h"], CellState]:
        u = self.mixer_norm(x)
        with products_in(u.dtype, u.device):
            h, state = self.mixer.mix(u, events, state)
        x = x + self.dropout(self.out(h.to(u.dtype)))
        return x + self.dropout(self.mlp(self.mlp_norm(x))), state


class LiquidBlocks(GradientCheckpointingLayer, nn.ModuleList):
    """All blocks, through which a segment of time goes at once; with activation checkpointing, computed anew.

    So little more than x is kept of a segment. A checkpoint per block would keep x for each.
    """

    def forward(
        self,
        x: Float[Tensor, "b t h"],
        clocks: Sequence[Events],
        states: Sequence[CellState],
        apart: bool,
    ) -> tuple[list[Float[Tensor, "b t h"]], list[CellState]]:
        """The input of every block and the last one's output, and the states after these events.

        Args:
            clocks: the events as each block counts them.
            apart: the last block's gradient stops at its input.
        """
        hidden, after = [x], []
        for i, (block, events, state) in enumerate(zip(self, clocks, states, strict=True)):
            x, state = block(x.detach() if apart and i == len(self) - 1 else x, events, state)
            hidden.append(x)
            after.append(state)
        return hidden, after


def products_in(dtype: torch.dtype, device: torch.device) -> AbstractContextManager:
    """Where the weights themselves are of low precision: states stay float32, matrix products do not."""
    low = dtype in (torch.bfloat16, torch.float16)
    return torch.autocast(device.type, dtype) if low else nullcontext()
