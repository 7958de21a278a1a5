"""One token per row by one call of the compiled kernel: the parts of `TorchStep`, packed for it.

Symbols: B batch, V vocabulary, H hidden.
"""

from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ..nn.state import CellState
from ..ops.native import takes
from ..ops.native.step import Block, Memory, Model, Norm, Packer, Parts, Plan, Weights
from .step_blocks import BlockStep, NormStep
from .torch_step import TorchStep


class NativeStep:
    """`TorchStep` by the kernel.

    Args:
        parts: what it computes, with a lean form of every block.
        weights: the type of the matrices. The table of the embedding, vectors and sums are float32.
    """

    def __init__(self, parts: TorchStep, weights: Weights):
        packer = Packer(weights)
        self.table, self.timed = parts.table, parts.time_norm is not None
        model = Model(
            hidden=parts.table.shape[1],
            vocabulary=parts.output.shape[1],
            table=packer.vector(parts.table),
            norm=_norm(packer, parts.norm),
            output=packer.matrix(parts.output),
            weighs_gap=parts.gap_weight is not None,
            gap_weight=parts.gap_weight or 0.0,
        )
        if parts.time_norm is not None:
            model.time_norm = _norm(packer, parts.time_norm)
        if (ngrams := parts.ngrams) is not None:
            model.longest, model.ngram_rows = ngrams.longest, ngrams.rows
            model.ngram_dim = ngrams.table.shape[1]
            model.ngram_table, model.ngram_proj = packer.vector(ngrams.table), packer.matrix(ngrams.proj)
        blocks = [_block(packer, cast(BlockStep, block)) for block in parts.blocks]
        self._plan = Plan(model, blocks, packer)

    @staticmethod
    def takes(parts: TorchStep) -> bool:
        """Whether the kernel can compute these parts."""
        return all(type(block) is BlockStep for block in parts.blocks) and takes(wide=[parts.table])

    def advance(
        self, ids: Int[Tensor, " b"], gap: Float[Tensor, "b 1"], states: list[CellState]
    ) -> tuple[Float[Tensor, "b v"], Float[Tensor, "b h"] | None, list[CellState]]:
        """As `TorchStep.advance`.

        Raises:
            IndexError: an id is outside the vocabulary.
        """
        after = [_room(state) for state in states]
        features = torch.empty(len(ids), self.table.shape[1]) if self.timed else None
        before = [_parts(state) for state in states]
        places = [_parts(state) for state in after]
        return self._plan.run(ids, gap, before, places, features), features, after


def _parts(state: CellState) -> Parts:
    return state.h, state.conv, state.memory, state.past_ids


def _room(state: CellState) -> CellState:
    """Room for the state after a token, whose time is set later."""
    h, conv, memory, past = (
        None if part is None else torch.empty(part.shape, dtype=part.dtype) for part in _parts(state)
    )
    return CellState(h, conv, memory, state.time, past)  # pyright: ignore[reportArgumentType]


def _norm(packer: Packer, norm: NormStep) -> Norm:
    return packer.norm(norm.weight, norm.eps)


def _block(packer: Packer, block: BlockStep) -> Block:
    """The entry of a block. The parts of its cell are joined by what they have as input."""
    cell = block.cell
    encode, warp, synapse = cell.weight.split(cell.sizes, 1)
    encode_bias, warp_bias, synapse_bias = cell.bias.split(cell.sizes)
    context_warp = torch.cat([encode, warp], 1)
    if cell.of_state is not None:
        context_warp = torch.cat([F.pad(cell.of_state, (0, 1)), context_warp])
    made = Block(
        mixer_norm=_norm(packer, block.mixer_norm),
        mlp_norm=_norm(packer, block.mlp_norm),
        taps=packer.vector(block.conv.taps),
        gap_scale=packer.vector(block.conv.scale),
        width=len(block.conv.taps),
        own_state=cell.of_state is not None,
        context=cell.sizes[0],
        context_warp=packer.matrix(context_warp, torch.cat([encode_bias, warp_bias])),
        synapse=packer.matrix(torch.cat([synapse, cell.of_encoder]), synapse_bias, pairs=True),
        leak=packer.vector(cell.leak),
        minus_pace=packer.vector(cell.minus_pace),
        out=packer.matrix(block.out),
        gate_up=packer.matrix(block.gate_up, pairs=True),
        down=packer.matrix(block.down),
        inner=len(block.down),
    )
    if (memory := block.memory) is not None:
        weight = packer.matrix(memory.weight, memory.bias)
        made.memory = Memory(memory.heads, memory.writes, weight, _norm(packer, memory.norm))
    return made
