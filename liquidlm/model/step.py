"""One token per row, as lean as it gets: what writing costs.

The equations are those of `cells/` and `model.py` for T = 1, without padding, documents or dropout, and with
all that does not change from token to token prepared once: the embedding stage is a table, matrices with
the same input are one matrix, and matrices lie (in, out) in memory, in which order a few rows are multiplied
fastest.
"""

from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Num
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from ..errors import LiquidError
from ..nn.cells import AsyncLiquidCell, TimeMixer
from ..nn.cells.async_cell import leak_rate, write_strength
from ..nn.events import LONGEST
from ..nn.ngram import NGramEmbedding
from ..nn.norm import Norm
from ..nn.state import CellState, LiquidCache, LiquidStateLayer
from ..runtime.offload import at_hand
from .block import LiquidBlock
from .language_model import LiquidTextGenerationModel


class Step(NamedTuple):
    """What all layers share of `Events`: what has elapsed, log(1 + gap), and the duration; each (B, 1)."""

    elapsed: Tensor
    log_gap: Tensor
    duration: Tensor

    @classmethod
    def after(cls, gap: Float[Tensor, "b 1"], weight: float | None) -> "Step":
        elapsed = gap if weight is None else 1 + weight * gap
        return cls(elapsed, gap.log1p(), elapsed + 1)


class LiquidStep:
    """token ▶ logits, by a model's present weights (a change of them needs a new LiquidStep).

    Computes in at least float32; `table` is `model.fold()`, if the caller has it. The state must have read
    something: a document's start is read by the model itself.
    """

    @torch.no_grad()
    def __init__(self, model: LiquidTextGenerationModel, table: Float[Tensor, "v h"] | None = None):
        wide = torch.promote_types(model.dtype, torch.float32)
        self.table = (model.fold() if table is None else table).to(wide)
        self.time_scale, self.gap_weight = model.config.time_scale, model.config.gap_weight
        with at_hand(*model.modules()):
            self.ngrams = None if model.ngrams is None else NGramStep(model.ngrams, wide)
            self.blocks = [BlockStep(cast(LiquidBlock, block), wide) for block in model.blocks]
            self.norm = NormStep(cast(Norm, model.norm), wide)
            self.time_norm = None if model.time_norm is None else NormStep(model.time_norm, wide)
            self.output = matrix(wide, plain_weight(model.output_proj))

    @torch.no_grad()
    def __call__(
        self,
        ids: Int[Tensor, " b"],
        state: LiquidCache,
        gap: float | Num[Tensor, "..."] = 1.0,
    ) -> Float[Tensor, "b v"]:
        """Read one token per row, `gap` after the one before, in the unit of the timestamps; what follows it.

        The state is brought up to date in place.
        """
        return self.read(ids, state, gap)[0]

    @torch.no_grad()
    def read(
        self,
        ids: Int[Tensor, " b"],
        state: LiquidCache,
        gap: float | Num[Tensor, "..."] = 1.0,
    ) -> tuple[Float[Tensor, "b v"], Float[Tensor, "b h"] | None]:
        """The same, and the features that the next gap is made of (`LiquidOutput`)."""
        if not bool(((gap := torch.as_tensor(gap, dtype=torch.float64)) >= 0).all() and gap.isfinite().all()):
            raise LiquidError(f"the gap before a token must be finite and at least 0, not {gap.tolist()}")
        last = state.last_time.to(self.table.device)
        fresh = last.isneginf()  # a row that was padding so far
        # As `Events` does: from the times themselves, so that a step is exactly one event of a longer pass.
        time = torch.where(fresh, 0.0, last + gap.to(last.device))
        gap = torch.where(fresh, 0.0, (time - last) / self.time_scale).clamp(max=LONGEST)
        gap = gap.to(self.table)[:, None]
        states = [cast(CellState, one).beside(self.table) for one in state.states()]
        logits, features, after = self.advance(ids, gap, states)
        for layer, new in zip(cast(list[LiquidStateLayer], state.layers), after, strict=True):
            layer.store(new._replace(time=time), 1)
        return logits, features

    def advance(
        self, ids: Int[Tensor, " b"], gap: Float[Tensor, "b 1"], states: list[CellState]
    ) -> tuple[Float[Tensor, "b v"], Float[Tensor, "b h"] | None, list[CellState]]:
        """The same, a function of tensors alone; the gap over `time_scale`."""
        after, steps = [], [Step.after(gap, self.gap_weight)] * len(self.blocks)
        if self.time_norm is not None:
            steps[-1] = Step.after(gap, None)
        x, past = F.embedding(ids, self.table), states[0].past_ids
        if self.ngrams is not None and past is not None:
            x, past = self.ngrams(x, ids, past)
        text = x
        for block, step, state in zip(self.blocks, steps, states, strict=True):
            text, (x, state) = x, block(x, step, state)
            after.append(state)
        after[0] = after[0]._replace(past_ids=past)
        if self.time_norm is None:
            return self.norm(x) @ self.output, None, after
        return self.norm(text) @ self.output, self.time_norm(x), after


def plain_weight(layer: nn.Module, kind: type[nn.Module] = nn.Linear) -> Float[Tensor, "*shape"]:
    """The weight of a layer, where it says all that the layer does."""
    if type(layer) is not kind:
        raise LiquidError(
            f"here the weights of a plain layer are needed, not of a {type(layer).__name__}: merge adapters"
            " into the model (peft: merge_and_unload())"
        )
    weight = cast(Tensor, layer.weight)
    return weight.dequantize() if is_traceable_wrapper_subclass(weight) else weight


def matrix(wide: torch.dtype, *weights: Tensor) -> Float[Tensor, "i o"]:
    """Weights (out, in) of layers with the same input, side by side as one (in, out)."""
    return torch.cat(weights).to(wide).mT.contiguous()


class NormStep:
    def __init__(self, norm: Norm, wide: torch.dtype):
        self.shape, self.eps, self.weight = norm.normalized_shape, norm.eps, plain_weight(norm, Norm).to(wide)

    def __call__(self, x: Float[Tensor, "*b h"]) -> Float[Tensor, "*b h"]:
        return F.layer_norm(x, self.shape, self.weight, None, self.eps)


class NGramStep:
    """x and what the last tokens together add to it."""

    def __init__(self, ngrams: NGramEmbedding, wide: torch.dtype):
        self.slots = ngrams.slots
        self.table = plain_weight(ngrams.table, nn.Embedding).to(wide)
        self.proj = matrix(wide, plain_weight(ngrams.proj))

    def __call__(
        self, x: Float[Tensor, "b h"], ids: Int[Tensor, " b"], past: Int[Tensor, "b w"]
    ) -> tuple[Float[Tensor, "b h"], Int[Tensor, "b w"]]:
        grams = torch.cat([past, ids[:, None] + 1], 1)
        found = F.embedding(self.slots(grams.flip(1)), self.table).flatten(1)
        return torch.addmm(x, found, self.proj), grams[:, 1:]


class BlockStep:
    """x + out(h), then x + MLP."""

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
        self, x: Float[Tensor, "b h"], step: Step, state: CellState
    ) -> tuple[Float[Tensor, "b h"], CellState]:
        u = self.mixer_norm(x)
        c, conv = self.conv(u, step, state.conv)
        memory = state.memory
        if self.memory is not None and memory is not None:
            c, memory = self.memory(c, step, memory)
        h = self.cell(c, step, state.h)
        x = torch.addmm(x, h, self.out)
        gate, up = (self.mlp_norm(x) @ self.gate_up).chunk(2, -1)
        x = torch.addmm(x, F.silu(gate).mul_(up), self.down)
        return x, CellState(h, conv, memory, state.time)


class ConvStep:
    """The short convolution: the tail is the state."""

    def __init__(self, mixer: TimeMixer, wide: torch.dtype):
        self.taps = mixer.conv.weight.to(wide).mT.contiguous()
        self.scale = mixer.conv.gap_scale.to(wide)

    def __call__(
        self, u: Float[Tensor, "b h"], step: Step, tail: Float[Tensor, "b w h"]
    ) -> tuple[Float[Tensor, "b h"], Float[Tensor, "b w h"]]:
        past = torch.cat([tail, u[:, None]], 1)
        return (past * self.taps).sum(1).addcmul_(step.log_gap, self.scale), past[:, 1:]


class MemoryStep:
    """One event of the matrix memory, and what it reads."""

    def __init__(self, mixer: AsyncLiquidCell, wide: torch.dtype):
        self.heads, self.writes, self.width = mixer.num_heads, mixer.num_writes, mixer.head_width
        self.norm = NormStep(mixer.head_norm, wide)
        hidden = mixer.hidden_size
        self.weight = matrix(wide, *map(plain_weight, (mixer.qkv, mixer.gate, mixer.rates)))
        self.sizes = (len(mixer.qkv.weight), hidden, self.heads, self.writes * self.heads)
        self.bias = F.pad(mixer.rates.bias.to(wide), (len(mixer.qkv.weight) + hidden, 0))

    def __call__(
        self, c: Float[Tensor, "b h"], step: Step, memory: Float[Tensor, "b n k p"]
    ) -> tuple[Float[Tensor, "b h"], Float[Tensor, "b n k p"]]:
        qkv, gate, leak, strength = torch.addmm(self.bias, c, self.weight).split(self.sizes, -1)
        batch = c.shape[0]  # len() would fix it in an exported step
        q, *rest = F.silu(qkv).view(batch, 2 * self.writes + 1, self.heads, 1, self.width).unbind(1)
        memory = memory * torch.exp(-leak_rate(leak) * step.elapsed)[..., None, None]
        write = write_strength(strength).view(batch, self.writes, self.heads, 1, 1)
        for eta, k, v in zip(write.unbind(1), rest[: self.writes], rest[self.writes :], strict=True):
            k = F.normalize(k, dim=-1)
            memory = memory + (eta * k).mT * (v - k @ memory)
        q = F.normalize(q, dim=-1)
        return self.norm(q @ memory).flatten(1) * F.silu(gate), memory


class CellStep:
    """The liquid time cell: one product for all that depends on its input alone, another for the encoder's
    part, one more where its state is a part of the context."""

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

    def __call__(self, c: Float[Tensor, "b h"], step: Step, h: Float[Tensor, "b h"]) -> Float[Tensor, "b h"]:
        encoded, warp, synapse = torch.addmm(self.bias, c, self.weight).split(self.sizes, -1)
        if self.of_state is not None:
            encoded = torch.addmm(encoded, h.tanh(), self.of_state)
        f, potential = torch.addmm(synapse, F.silu(encoded), self.of_encoder).chunk(2, -1)
        f = F.softplus(f)
        rate = f + self.leak
        q = (rate * self.minus_pace).mul_(F.softplus(warp) * step.duration).expm1_()
        # h∞ + (h − h∞)eˣ = h + (eˣ − 1)(h − h∞)
        return torch.addcmul(h, q, torch.addcmul(h, f.div_(rate), potential, value=-1))
