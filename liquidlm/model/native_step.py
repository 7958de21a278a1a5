"""The next tokens of every row by one call of the compiled kernel: the parts of `TorchStep`, packed for it.

Symbols: B batch, T tokens, V vocabulary, H hidden.
"""

from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ..errors import LiquidError
from ..nn.state import CellState
from ..ops.native import takes
from ..ops.native.step import Block, Memory, Model, Norm, Packer, Parts, Plan, Weights
from .step_blocks import BlockStep, NormStep
from .torch_step import TorchStep

Shapes = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...] | None, tuple[int, ...] | None]
"""Of h, conv, memory and past_ids."""


class NativeStep:
    """`TorchStep` by the kernel.

    Args:
        parts: what it computes, with a lean form of every block.
        weights: the type of the matrices. The table of the embedding, vectors and sums are float32.

    Attributes:
        reads: whether it takes several tokens of a row at once. A cell whose state is part of its own input
            takes one.
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
        blocks = cast(list[BlockStep], parts.blocks)
        self.reads = all(block.cell.of_state is None for block in blocks)
        pasts = [None if ngrams is None else (ngrams.longest - 1,), *[None] * (len(blocks) - 1)]
        self._shapes = [_shapes(block, past) for block, past in zip(blocks, pasts, strict=True)]
        self._plan = Plan(model, [_block(packer, block) for block in blocks], packer)

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
            LiquidError: a state of another model or of another number of rows.
        """
        return self.read(ids[:, None], gap, states)

    def read(
        self,
        ids: Int[Tensor, "b t"],
        gap: Float[Tensor, "b t"],
        states: list[CellState],
        *,
        every: bool = False,
    ) -> tuple[Float[Tensor, "n v"], Float[Tensor, "n h"] | None, list[CellState]]:
        """Several tokens of every row; `reads` must be true, or T 1.

        Args:
            ids: the tokens.
            gap: time before each, in units of time_scale.
            states: the state of each block; not changed.
            every: logits and features after every token (B·T, …); False: after the last of each row (B, …).

        Raises:
            IndexError: an id is outside the vocabulary.
            LiquidError: a state of another model or of another number of rows.
        """
        ids, before, rows = ids.long(), [_parts(state) for state in states], len(ids)
        after = [_room(ids[:, 0], gap, shapes) for shapes in self._shapes]
        for old, new in zip(before, after, strict=True):
            if [_shape(part) for part in old] != [_shape(part) for part in new]:  # not beyond a tensor's end
                raise LiquidError(
                    f"the state does not fit: its tensors have the shapes {[_shape(x) for x in old]}, not"
                    f" {[_shape(x) for x in new]}"
                )
        results = ids.numel() if every else rows
        features = gap.new_empty(results, self.table.shape[1]) if self.timed else None
        logits = self._plan.run(ids, gap, before, after, features, every=every)
        moved = [
            CellState(h, conv, memory, state.time, past)
            for (h, conv, memory, past), state in zip(after, states, strict=True)
        ]
        return logits, features, moved


def _parts(state: CellState) -> Parts:
    return state.h, state.conv, state.memory, state.past_ids


def _shape(part: Tensor | None) -> tuple[int, ...] | None:
    return None if part is None else tuple(part.shape)


def _room(ids: Tensor, gap: Tensor, shapes: Shapes) -> Parts:
    """Room for the state of a block, in the types of ids and gap, one row for each."""
    rows = len(ids)
    h, conv, memory, past = shapes
    return (
        gap.new_empty(rows, *h),
        gap.new_empty(rows, *conv),
        None if memory is None else gap.new_empty(rows, *memory),
        None if past is None else ids.new_empty(rows, *past),
    )


def _shapes(block: BlockStep, past: tuple[int, ...] | None) -> Shapes:
    """The shapes of a block's state, without the rows."""
    width, hidden = block.conv.taps.shape
    memory = None if (of := block.memory) is None else (of.heads, of.width, of.width)
    return (hidden,), (width - 1, hidden), memory, past


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
