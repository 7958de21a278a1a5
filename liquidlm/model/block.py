"""A block of the model: a time mixer, then a gated MLP, each added to a residual stream.

    x ▶ x + W_o mixer(norm x, time) ▶ x + MLP(norm x)

There are several kinds of blocks. They differ in the mixer. To add a kind, write a mixer in
`liquidlm/nn/cells/` and add it to the mapping `MIXERS` in `liquidlm/model/mixers.py`.

Symbols: B batch, T tokens, H hidden.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..nn.events import Events
from ..nn.norm import AddNorm, Norm
from ..nn.state import CellState
from ..ops import swiglu
from .config import LiquidConfig
from .mixers import MIXERS


class GatedMLP(nn.Module):
    """down(silu(gate x) ⊙ up x), the SwiGLU of Shazeer 2020 (arXiv:2002.05202).

    Args:
        hidden_size: width of x and of the result.
        intermediate_size: width of gate x and up x.
    """

    def __init__(self, hidden_size: int, intermediate_size: int):
        super().__init__()
        self.gate = nn.Linear(hidden_size, intermediate_size, bias=False)
        self.up = nn.Linear(hidden_size, intermediate_size, bias=False)
        self.down = nn.Linear(intermediate_size, hidden_size, bias=False)

    def forward(self, x: Float[Tensor, "*b h"]) -> Float[Tensor, "*b h"]:
        """The result for each vector x."""
        return self.down(swiglu(self.gate(x), self.up(x)))


class LiquidBlock(nn.Module):
    """x + out(mixer(norm x, time)); then x + MLP(norm x).

    Args:
        config: sizes of the model.
        kind: a name in `MIXERS`.
    """

    def __init__(self, config: LiquidConfig, kind: str):
        super().__init__()
        width, rate = config.hidden_size, config.dropout_rate
        self.mixer_norm = Norm(width, config.norm_eps)
        self.mixer = MIXERS[kind](config)
        self.out = nn.Linear(width, width, bias=False)
        self.mlp_norm = AddNorm(width, config.norm_eps)
        self.mlp = GatedMLP(width, cast(int, config.intermediate_size))
        self.dropout = nn.Dropout(rate)
        with torch.no_grad():  # the residual stream keeps its scale at any depth
            for last in (self.out, self.mlp.down):
                last.weight.mul_((2 * config.num_hidden_layers) ** -0.5)

    def forward(
        self, x: Float[Tensor, "b t h"], events: Events, state: CellState
    ) -> tuple[Float[Tensor, "b t h"], CellState]:
        """The residual stream after this block, and the state after the last event.

        Args:
            x: the residual stream before this block.
            events: the times of the tokens; padding at the right end.
            state: the mixer's state before the first event.
        """
        u = self.mixer_norm(x)
        with products_in(u.dtype, u.device):
            h, state = self.mixer.mix(u, events, state)
        x, u = self.mlp_norm(x, self.dropout(self.out(h.to(u.dtype))))
        return x + self.dropout(self.mlp(u)), state


class LiquidBlocks(nn.ModuleList):
    """All blocks, one after the other, over one segment of time."""

    def forward(
        self,
        x: Float[Tensor, "b t h"],
        clocks: Sequence[Events],
        states: Sequence[CellState],
        apart: bool,
    ) -> tuple[list[Float[Tensor, "b t h"]], list[CellState]]:
        """The input of every block and the last block's output, and the states after these events.

        Args:
            x: the vectors of the tokens.
            clocks: the events for each block.
            states: the state of each block before the first event.
            apart: whether the last block's gradient stops at its input, as that of the time head does.
        """
        hidden, after = [x], []
        for i, (block, events, state) in enumerate(zip(self, clocks, states, strict=True)):
            x, state = block(x.detach() if apart and i == len(self) - 1 else x, events, state)
            hidden.append(x)
            after.append(state)
        return hidden, after


def products_in(dtype: torch.dtype, device: torch.device) -> AbstractContextManager:
    """Autocast for weights of low precision: matrix products are computed in it, states stay float32."""
    low = dtype in (torch.bfloat16, torch.float16)
    return torch.autocast(device.type, dtype) if low else nullcontext()
