"""The parts of `TorchStep`: every part of the model for one token per row.

Matrices are stored as (in, out): a product of a few rows with them is fastest in this order.

Symbols: B batch, H hidden, N heads.
"""

from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from ..errors import LiquidError
from ..nn.cells import AsyncLiquidCell, NonlinearMixer, TimeMixer
from ..nn.cells.async_cell import leak_rate, write_strength
from ..nn.events import Events
from ..nn.ngram import NGramEmbedding
from ..nn.norm import AddNorm, GatedNorm, Norm
from ..nn.state import CellState
from .block import LiquidBlock


class StepTime(NamedTuple):
    """The time of one token, as all blocks need it; see `Events`.

    Attributes:
        gap: since the token before, in units of time_scale.
        weight: `Events.gap_weight`.
        elapsed: over which a memory leaks.
        log_gap: log(1 + gap).
        duration: internal time of the cell.
    """

    gap: Float[Tensor, "b 1"]
    weight: float | None
    elapsed: Float[Tensor, "b 1"]
    log_gap: Float[Tensor, "b 1"]
    duration: Float[Tensor, "b 1"]

    @classmethod
    def after(cls, gap: Float[Tensor, "b 1"], weight: float | None) -> "StepTime":
        """The time of a token that comes a gap after the one before."""
        elapsed = gap if weight is None else 1 + weight * gap
        return cls(gap, weight, elapsed, gap.log1p(), elapsed + 1)


def plain_weight(layer: nn.Module, *kinds: type[nn.Module]) -> Float[Tensor, "*shape"]:
    """The weight of a layer of one of these kinds, nn.Linear if none is given; dequantised.

    Raises:
        LiquidError: the layer is not exactly of such a kind: it may do more than its weight says.
    """
    if type(layer) not in (kinds or (nn.Linear,)):
        raise LiquidError(
            f"writing needs plain layers, not a {type(layer).__name__}: merge adapters into the model (peft:"
            " merge_and_unload())"
        )
    weight = cast(Tensor, layer.weight)
    return weight.dequantize() if is_traceable_wrapper_subclass(weight) else weight


def matrix(wide: torch.dtype, *weights: Tensor) -> Float[Tensor, "i o"]:
    """Weights (out, in) of layers with the same input ▶ one matrix (in, out)."""
    return torch.cat(weights).to(wide).mT.contiguous()


class NormStep:
    """`Norm`, with its weight in the type of the step."""

    def __init__(self, norm: Norm, wide: torch.dtype):
        self.shape, self.eps = norm.normalized_shape, norm.eps
        self.weight = plain_weight(norm, Norm, AddNorm, GatedNorm).to(wide)

    def __call__(self, x: Float[Tensor, "*b h"]) -> Float[Tensor, "*b h"]:
        """The norm of each vector."""
        return F.layer_norm(x, self.shape, self.weight, None, self.eps)


class NGramStep:
    """x + `NGramEmbedding` of the last tokens."""

    def __init__(self, ngrams: NGramEmbedding, wide: torch.dtype):
        self.slots, self.rows, self.longest = ngrams.slots, ngrams.rows, ngrams.longest
        self.table = plain_weight(ngrams.table, nn.Embedding).to(wide)
        self.proj = matrix(wide, plain_weight(ngrams.proj))

    def __call__(
        self, x: Float[Tensor, "b h"], ids: Int[Tensor, " b"], past: Int[Tensor, "b w"]
    ) -> tuple[Float[Tensor, "b h"], Int[Tensor, "b w"]]:
        """x with the n-grams added, and the last tokens after this one, each id + 1."""
        grams = torch.cat([past, ids[:, None] + 1], 1)
        found = F.embedding(self.slots(grams.flip(1)), self.table).flatten(1)
        return torch.addmm(x, found, self.proj), grams[:, 1:]


class BlockStep:
    """`LiquidBlock` with a mixer in LEAN: x + out(h), then x + MLP."""

    def __init__(self, block: LiquidBlock, wide: torch.dtype):
        mixer = block.mixer
        self.mixer_norm, self.mlp_norm = (NormStep(norm, wide) for norm in (block.mixer_norm, block.mlp_norm))
        self.conv = ConvStep(mixer, wide)
        self.memory = MemoryStep(mixer, wide) if isinstance(mixer, AsyncLiquidCell) else None
        self.cell = CellStep(mixer, wide)
        self.out = matrix(wide, plain_weight(block.out))
        self.gate_up = matrix(wide, plain_weight(block.mlp.gate), plain_weight(block.mlp.up))
        self.down = matrix(wide, plain_weight(block.mlp.down))

    def __call__(
        self, x: Float[Tensor, "b h"], time: StepTime, state: CellState
    ) -> tuple[Float[Tensor, "b h"], CellState]:
        """The residual stream after the block, and its state."""
        u = self.mixer_norm(x)
        c, conv = self.conv(u, time, state.conv)
        memory = state.memory
        if self.memory is not None and memory is not None:
            c, memory = self.memory(c, time, memory)
        h = self.cell(c, time, state.h)
        x = torch.addmm(x, h, self.out)
        gate, up = (self.mlp_norm(x) @ self.gate_up).chunk(2, -1)
        x = torch.addmm(x, F.silu(gate).mul_(up), self.down)
        return x, CellState(h, conv, memory, state.time)


class WholeBlockStep:
    """`LiquidBlock` with a mixer that is not in LEAN: the block itself, over one event."""

    def __init__(self, block: LiquidBlock):
        self.block = block

    def __call__(
        self, x: Float[Tensor, "b h"], time: StepTime, state: CellState
    ) -> tuple[Float[Tensor, "b h"], CellState]:
        """The residual stream after the block, and its state."""
        start = torch.zeros_like(time.gap, dtype=torch.bool)
        events = Events(time.gap, start, None, False, state.time, time.weight)
        own = self.block.out.weight.dtype
        y, state = self.block(x[:, None].to(own), events, state)
        return y[:, 0].to(x.dtype), state


LEAN = (TimeMixer, NonlinearMixer, AsyncLiquidCell)
"""The mixers that `BlockStep` computes. Their subclasses are not among them."""


def block_step(block: LiquidBlock, wide: torch.dtype) -> BlockStep | WholeBlockStep:
    """The step of a block, in the type `wide` if there is a lean form."""
    return BlockStep(block, wide) if type(block.mixer) in LEAN else WholeBlockStep(block)


class ConvStep:
    """`ShortConvolution`, whose state is its last inputs."""

    def __init__(self, mixer: TimeMixer, wide: torch.dtype):
        self.taps = mixer.conv.weight.to(wide).mT.contiguous()
        self.scale = mixer.conv.gap_scale.to(wide)

    def __call__(
        self, u: Float[Tensor, "b h"], time: StepTime, tail: Float[Tensor, "b w h"]
    ) -> tuple[Float[Tensor, "b h"], Float[Tensor, "b w h"]]:
        """The convolution at this token, and the last inputs after it."""
        past = torch.cat([tail, u[:, None]], 1)
        return (past * self.taps).sum(1).addcmul_(time.log_gap, self.scale), past[:, 1:]


class MemoryStep:
    """One event of the matrix memory of `AsyncLiquidCell`, and its read."""

    def __init__(self, mixer: AsyncLiquidCell, wide: torch.dtype):
        self.heads, self.writes, self.width = mixer.num_heads, mixer.num_writes, mixer.head_width
        self.norm = NormStep(mixer.head_norm, wide)
        hidden = mixer.hidden_size
        self.weight = matrix(wide, *map(plain_weight, (mixer.qkv, mixer.gate, mixer.rates)))
        self.sizes = (len(mixer.qkv.weight), hidden, self.heads, self.writes * self.heads)
        self.bias = F.pad(mixer.rates.bias.to(wide), (len(mixer.qkv.weight) + hidden, 0))

    def __call__(
        self, c: Float[Tensor, "b h"], time: StepTime, memory: Float[Tensor, "b n k p"]
    ) -> tuple[Float[Tensor, "b h"], Float[Tensor, "b n k p"]]:
        """The gated read at this token, and the memory after it."""
        qkv, gate, leak, strength = torch.addmm(self.bias, c, self.weight).split(self.sizes, -1)
        batch = c.shape[0]  # len() would make it a constant of an exported step
        q, *rest = F.silu(qkv).view(batch, 2 * self.writes + 1, self.heads, 1, self.width).unbind(1)
        memory = memory * torch.exp(-leak_rate(leak) * time.elapsed)[..., None, None]
        write = write_strength(strength).view(batch, self.writes, self.heads, 1, 1)
        for eta, k, v in zip(write.unbind(1), rest[: self.writes], rest[self.writes :], strict=True):
            k = F.normalize(k, dim=-1)
            memory = memory + (eta * k).mT * (v - k @ memory)
        q = F.normalize(q, dim=-1)
        return self.norm(q @ memory).flatten(1) * F.silu(gate), memory


class CellStep:
    """`ImprovedLiquidTimeCell` in at most three products.

    The first is of all that depends on the input alone, the second of the encoder's result, the third of the
    state, where the state is part of the context.
    """

    def __init__(self, mixer: TimeMixer, wide: torch.dtype):
        cell, hidden = mixer.cell, mixer.hidden_size
        neuron, encoder = cell.neuron.neuron, cell.neuron.encoder
        synapse = plain_weight(neuron.synapse)
        encode = plain_weight(encoder)
        self.weight = matrix(wide, encode[:, :hidden], plain_weight(cell.warp), synapse[:, :hidden])
        self.of_state = matrix(wide, encode[:, hidden:]) if cell.neuron.context == "state" else None
        self.bias = torch.cat([encoder.bias, cell.warp.bias, neuron.synapse.bias]).to(wide)
        self.of_encoder = matrix(wide, synapse[:, hidden:])
        self.sizes = (encoder.out_features, 1, 2 * hidden)
        self.leak = torch.exp(-neuron.log_tau.to(wide))
        self.minus_pace = -torch.sigmoid(cell.stability.to(wide))

    def __call__(
        self, c: Float[Tensor, "b h"], time: StepTime, h: Float[Tensor, "b h"]
    ) -> Float[Tensor, "b h"]:
        """The state of the cell after this token."""
        encoded, warp, synapse = torch.addmm(self.bias, c, self.weight).split(self.sizes, -1)
        if self.of_state is not None:
            encoded = torch.addmm(encoded, h.tanh(), self.of_state)
        f, potential = torch.addmm(synapse, F.silu(encoded), self.of_encoder).chunk(2, -1)
        f = F.softplus(f)
        rate = f + self.leak
        q = (rate * self.minus_pace).mul_(F.softplus(warp) * time.duration).expm1_()
        # h∞ + (h − h∞)eˣ = h + (eˣ − 1)(h − h∞)
        return torch.addcmul(h, q, torch.addcmul(h, f.div_(rate), potential, value=-1))
