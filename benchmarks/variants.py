"""Our model with one choice made otherwise, for the ablations: what loses lives here and nowhere else."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.language_models import LanguageModel, Ours
from benchmarks.peers import MODELS, build
from liquidlm import LiquidConfig, LiquidTextGenerationModel
from liquidlm.nn.cells import AsyncLiquidCell, TimeMixer
from liquidlm.nn.cells.async_cell import IDLE, Reads, leak_rate
from liquidlm.nn.cells.conv import last_inputs
from liquidlm.nn.cells.decay import inverse_softplus, spread_time_constants
from liquidlm.nn.embedding import FIRST_GAIN, TokenVectors
from liquidlm.ops import delta_memory
from liquidlm.ops.memory import segment_sums
from liquidlm.runtime.precision import full_precision

Make = Callable[..., LiquidTextGenerationModel]
SIZES: dict[str, dict[str, Any]] = {
    "": {"hidden_size": 256, "embedding_dim": 256, "latent_dim": 128, "num_hidden_layers": 4},
    "tiny": {"hidden_size": 128, "embedding_dim": 128, "latent_dim": 64, "num_hidden_layers": 4},
}


def _pattern(kinds: str) -> Callable[[Make], LiquidTextGenerationModel]:
    """T: time, M: memory, N: nonlinear."""
    types = [{"T": "time", "M": "memory", "N": "nonlinear"}[kind] for kind in kinds]
    return lambda make: make(mixer_types=types, num_hidden_layers=len(types))


class PlainEmbedding(nn.Module):
    """ids ▶ gain ⊙ embedding, with the interface of our embedding stage and its gain."""

    def __init__(self, vocab: int, width: int):
        super().__init__()
        self.embedding = nn.Embedding(vocab, width)
        self.gain = nn.Parameter(torch.full((width,), FIRST_GAIN))

    def distinct(self, ids, mask, t_span, with_flow_loss=False, flow_ids=None):
        return TokenVectors(self.gain * self.embedding.weight, ids)

    def check_ids(self, ids):
        assert int(ids.max()) < len(self.embedding.weight)


def _plain_embedding(make: Make) -> LiquidTextGenerationModel:
    model = make(tie_word_embeddings=True)
    model.embedding = PlainEmbedding(model.config.vocab_size, model.config.hidden_size)  # pyright: ignore
    model.output_proj.weight = model.embedding.embedding.weight
    return model


class Gated(nn.Module):
    """A mixer whose result is gated by its input, h ⊙ silu(gate u)."""

    def __init__(self, mixer: TimeMixer):
        super().__init__()
        self.mixer = mixer
        self.gate = nn.Linear(mixer.hidden_size, mixer.hidden_size, bias=False)
        self.initial_state = mixer.initial_state

    def mix(self, u, events, state):
        h, state = self.mixer.mix(u, events, state)
        return h.to(u.dtype) * F.silu(self.gate(u)), state


def _gated(make: Make) -> LiquidTextGenerationModel:
    model = make()
    for block in model.blocks:
        block.mixer = Gated(block.mixer)  # pyright: ignore
    return model


def _memory_without_cell(make: Make) -> LiquidTextGenerationModel:
    model = make()
    mixer: Any = model.blocks[1].mixer
    mixer.cell.requires_grad_(False)

    def mix(x, events, state):
        u, tail = mixer.conv(x, events, state.conv)
        context, memory = mixer.context(u, events, state)
        return context.float(), state._replace(conv=tail, memory=memory, time=events.last_time)

    mixer.mix = mix
    return model


class OwnConvolutions(AsyncLiquidCell):
    """Queries, keys and values each with a convolution of their own, after their projections (as Yang et al.
    2025 have it), in place of one before them all."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.taps = nn.Parameter(torch.randn(self.qkv.out_features, 1, self.conv.width) * 0.3)
        with torch.no_grad():
            self.taps[:, :, -1] += 1.0

    def mix(self, x, events, state):
        self.seen = torch.cat([state.conv.to(x.dtype), x], 1)
        return super().mix(x, events, state)

    def reads(self, u, events):
        made = F.conv1d(self.qkv(self.seen).mT, self.taps.to(u.dtype), groups=len(self.taps)).mT
        rest, qkv = super().reads(u, events), F.silu(made).unflatten(-1, (3, -1, self.head_width))
        q, k, v = qkv.unbind(2)
        return rest._replace(q=F.normalize(q, dim=-1), k=F.normalize(k, dim=-1), v=v)


class SeparateWrite(AsyncLiquidCell):
    """S = (I − η kkᵀ) S⁻ + ω k vᵀ with a write gate ω of its own beside the erase gate η; the same at the
    start."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.share = nn.Linear(self.hidden_size, self.num_heads)
        nn.init.normal_(self.share.weight, std=0.1 * self.hidden_size**-0.5)
        nn.init.zeros_(self.share.bias)

    def reads(self, u, events):
        made = super().reads(u, events)
        return made._replace(v=made.v * 2 * torch.sigmoid(self.share(u))[..., None])


class Rotated(AsyncLiquidCell):
    """Queries and keys turn by the phase Σ Ω(x)Δ, pair by pair: complex rates. The phase begins at 0 in every
    call, and the memory that is handed on is turned back by what has passed."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        pairs = self.head_width // 2
        self.pace = nn.Linear(self.hidden_size, self.num_heads)
        nn.init.normal_(self.pace.weight, std=0.1 * self.hidden_size**-0.5)
        nn.init.ones_(self.pace.bias)
        self.log_speed = nn.Parameter(-torch.arange(pairs) / pairs * torch.tensor(1e5).log())

    def context(self, u, events, state):
        assert state.memory is not None
        made = self.reads(u, events)
        turn = F.softplus(self.pace(u).float()) * events.elapsed[..., None]
        phase = turn.cumsum(1)[..., None] * self.log_speed.exp()
        q, k = _turned(made.q, phase), _turned(made.k, phase)
        turned = Reads(q, k, made.v, made.log_decay, made.write)
        o, memory = delta_memory(*turned, state.memory, self.chunk_size)
        assert memory is not None
        memory = _turned(memory.mT, -phase[:, -1][:, :, None]).mT
        return self.head_norm(o, self.gate(u).view_as(o)).flatten(2), memory


def _turned(x: torch.Tensor, phase: torch.Tensor) -> torch.Tensor:
    """The two halves of the last axis as real and imaginary parts, times e^{i phase}."""
    a, b = x.float().chunk(2, -1)
    return torch.cat([a * phase.cos() - b * phase.sin(), a * phase.sin() + b * phase.cos()], -1).to(x.dtype)


class ChannelLeak(AsyncLiquidCell):
    """A leak for every channel of a head's keys in place of one for the head: S⁻ = diag(e^{−a(x)Δ}) S (Kimi
    Team 2025). At the start every head's are spread over the decades of the time constants."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.leak = nn.Linear(self.hidden_size, self.hidden_size)
        nn.init.normal_(self.leak.weight, std=0.1 * self.hidden_size**-0.5)
        slow = spread_time_constants(self.head_width).repeat(self.num_heads)
        with torch.no_grad():
            self.leak.bias.copy_(inverse_softplus(IDLE + 1 / slow))

    def reads(self, u, events):
        rate = leak_rate(self.leak(u).float()).unflatten(-1, (self.num_heads, -1))
        log_decay = (-rate * events.elapsed[..., None, None]).masked_fill(
            events.start[..., None, None], float("-inf")
        )
        return super().reads(u, events)._replace(log_decay=log_decay)

    def context(self, u, events, state):
        assert state.memory is not None
        o, memory = channel_memory(*self.reads(u, events), state.memory)
        return self.head_norm(o, self.gate(u).view_as(o)).flatten(2), memory


def channel_memory(q, k, v, log_decay, write, state, size: int = 16):
    """`delta_memory` with a decay per channel, (B, T, N, K), in chunks of `size`; every D_ij is made."""
    parts = (x.to(state.dtype).transpose(1, 2).split(size, 2) for x in (q, k, v, log_decay, write[..., None]))
    out = []
    for q_, k_, v_, g, eta in zip(*parts, strict=True):
        between = segment_sums(g.mT).exp().movedim(2, -1)  # (B, N, C, C, K)
        since, until = g.cumsum(2).exp(), between[:, :, -1]
        keys = torch.einsum("bnik,bnijk,bnjk->bnij", k_, between, k_).tril(-1)
        reads = torch.einsum("bnik,bnijk,bnjk->bnij", q_, between, k_)
        surprise = eta * (v_ - (since * k_) @ state)
        writes = torch.linalg.solve_triangular(eta * keys, surprise, upper=False, unitriangular=True)
        out.append((since * q_) @ state + reads @ writes)
        state = since[:, :, -1, :, None] * state + (until * k_).mT @ writes
    return torch.cat(out, 2).transpose(1, 2), state


class WindowAttention(nn.Module):
    """Softmax attention over the last `window` events, rotary positions; the inputs of the last window are
    its state."""

    def __init__(self, mixer: TimeMixer, window: int = 256):
        super().__init__()
        self.window, self.heads = window, max(1, mixer.hidden_size // 64)
        self.qkv = nn.Linear(mixer.hidden_size, 3 * mixer.hidden_size, bias=False)
        self.fresh = mixer.initial_state

    def initial_state(self, batch, dtype, device):
        state = self.fresh(batch, dtype, device)
        return state._replace(conv=state.conv[:, :1].expand(-1, self.window - 1, -1))

    def mix(self, x, events, state):
        past, length = self.window - 1, x.shape[1]
        q, k, v = self.qkv(torch.cat([state.conv.to(x.dtype), x], 1)).chunk(3, -1)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (q[:, past:], k, v))
        place, pairs = torch.arange(past + length), q.shape[-1] // 2
        phase = place[:, None] * 1e4 ** (-torch.arange(pairs) / pairs)
        back = place[past:, None] - place
        empty = (state.conv.abs().sum(-1) == 0)[:, None, None]  # before a document's first
        seen = (back >= 0) & (back < self.window) & ~F.pad(empty, (0, length))
        out = F.scaled_dot_product_attention(_turned(q, phase[past:]), _turned(k, phase), v, attn_mask=seen)
        tail = last_inputs(x, events, state.conv)
        return out.transpose(1, 2).flatten(2), state._replace(conv=tail, time=events.last_time)


def _with_memory(kind: type[AsyncLiquidCell]) -> Callable[[Make], LiquidTextGenerationModel]:
    """Another matrix memory in the second block."""

    def variant(make: Make) -> LiquidTextGenerationModel:
        model = make()
        block: Any = model.blocks[1]
        block.mixer = kind(model.config.hidden_size, 0.0)
        return model

    return variant


def _window_attention(make: Make) -> LiquidTextGenerationModel:
    model = make()
    block: Any = model.blocks[3]
    block.mixer = WindowAttention(block.mixer)
    return model


class ThroughFlow(nn.Module):
    """norm ▶ z ▶ inverse of the embedding's flow ▶ what the table of embeddings is compared with."""

    def __init__(self, model: LiquidTextGenerationModel):
        super().__init__()
        config, self.norm = model.config, model.norm
        self.flow = model.embedding.flow
        self.to_latent = nn.Linear(config.hidden_size, config.latent_dim, bias=False)
        self.scale = nn.Parameter(torch.tensor(config.embedding_dim**-0.5))

    def forward(self, x):
        with full_precision(self.to_latent(self.norm(x))) as z:
            return (self.scale * self.flow.inverse(z)).to(x.dtype)


def _through_flow(make: Make) -> LiquidTextGenerationModel:
    model = make()
    model.norm = ThroughFlow(model)  # pyright: ignore
    model.output_proj.weight = model.embedding.embedding.weight
    model.config.tie_word_embeddings = True  # its flow follows the whole table
    return model


VARIANTS: dict[str, Callable[[Make], LiquidTextGenerationModel]] = {
    "liquid": lambda make: make(),
    "TTTT": _pattern("TTTT"),
    "MMMM": _pattern("MMMM"),
    "TMTM": _pattern("TMTM"),
    "TTTM": _pattern("TTTM"),
    "MTTT": _pattern("MTTT"),
    "TMTN": _pattern("TMTN"),
    "plain tied embedding with gain": _plain_embedding,
    "tied": lambda make: make(tie_word_embeddings=True),
    "output through the inverse flow": _through_flow,
    "gated": _gated,
    "no convolution": lambda make: make(conv_width=1),
    "memory without time cell": _memory_without_cell,
    "own convolutions": _with_memory(OwnConvolutions),
    "separate write": _with_memory(SeparateWrite),
    "rotated": _with_memory(Rotated),
    "leak per channel": _with_memory(ChannelLeak),
    "window attention": _window_attention,
    "1 head": lambda make: make(num_heads=1),
    "8 heads": lambda make: make(num_heads=8),
    "two writes": lambda make: make(num_writes=2),
    "no n-grams": lambda make: make(ngram_rows=0),
    "n-grams": lambda make: make(ngram_rows=16384),
    "three blocks, MLP of 3 H": lambda make: make(
        mlp=3.0, num_hidden_layers=3, ngram_rows=16384, ngram_dim=19
    ),
    "n-grams up to 5": lambda make: make(ngram_rows=16384, ngram_max=5, ngram_dim=18),
    "8,192 rows of 48": lambda make: make(ngram_rows=8192, ngram_dim=48),
    "MLP of H, n-grams of 32": lambda make: make(mlp=1.0, ngram_rows=16384, ngram_dim=32),
    "flow weight 0.01": lambda make: make(flow_loss_weight=0.01),
    "latent as wide as the embedding": lambda make: make(latent=1.0),
}


def build_variant(name: str, vocab: int, length: int) -> LanguageModel:
    """A peer, or a variant of ours, of width 256 or of another size of SIZES ("tiny/1 head").

    Variants that name rows of n-grams have as many parameters as ours at width 256 only.
    """
    size, _, variant = name.rpartition("/")
    if variant in MODELS:
        return build(name, vocab, length)

    def make(
        mlp: float | None = None, latent: float | None = None, **choices: Any
    ) -> LiquidTextGenerationModel:
        sizes = {"vocab_size": vocab, "dropout_rate": 0.0, **SIZES[size], **choices}
        if latent is not None:
            sizes["latent_dim"] = round(latent * sizes["embedding_dim"])
        if mlp is not None:
            sizes["intermediate_size"] = round(mlp * sizes["hidden_size"])
        return LiquidTextGenerationModel(LiquidConfig(**sizes))

    return Ours(VARIANTS[variant](make))
