"""Our model with one choice made otherwise, for the ablations: what loses lives here and nowhere else."""

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import nn

from benchmarks.peers import MODELS, LanguageModel, Ours, build
from liquidlm import LiquidConfig, LiquidTextGenerationModel
from liquidlm.cells import TimeMixer

SIZES: dict[str, Any] = {"hidden_size": 256, "embedding_dim": 256, "latent_dim": 128, "num_hidden_layers": 4}


def liquid(vocab: int, **choices: Any) -> LiquidTextGenerationModel:
    return LiquidTextGenerationModel(
        LiquidConfig(**{"vocab_size": vocab, "dropout_rate": 0.0, **SIZES, **choices})
    )


def _pattern(kinds: str) -> Callable[[int], LiquidTextGenerationModel]:
    """T: time, M: memory."""
    types = [{"T": "time", "M": "memory"}[kind] for kind in kinds]
    return lambda vocab: liquid(vocab, mixer_types=types, num_hidden_layers=len(types))


class PlainEmbedding(nn.Module):
    """ids ▶ embedding, with the interface of our embedding stage."""

    def __init__(self, vocab: int, width: int):
        super().__init__()
        self.embedding = nn.Embedding(vocab, width)
        nn.init.normal_(self.embedding.weight, std=1.0)

    def distinct(self, ids, mask, t_span, flow_loss=False):
        return self.embedding.weight, ids, None, None

    def check_ids(self, ids):
        assert int(ids.max()) < len(self.embedding.weight)


def _plain_embedding(vocab: int, tied: bool = False) -> LiquidTextGenerationModel:
    model = liquid(vocab)
    model.embedding = PlainEmbedding(vocab, SIZES["hidden_size"])  # pyright: ignore
    if tied:
        model.output_proj.weight = model.embedding.embedding.weight
        nn.init.normal_(model.output_proj.weight, std=0.02)
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


def _gated(vocab: int) -> LiquidTextGenerationModel:
    model = liquid(vocab)
    for block in model.blocks:
        block.mixer = Gated(block.mixer)  # pyright: ignore
    return model


def _no_conv(vocab: int) -> LiquidTextGenerationModel:
    return liquid(vocab, conv_width=1)


def _memory_without_cell(vocab: int) -> LiquidTextGenerationModel:
    model = liquid(vocab)
    mixer: Any = model.blocks[1].mixer
    mixer.cell.requires_grad_(False)

    def mix(x, events, state):
        u, tail = mixer.conv(x, events, state.conv)
        context, memory = mixer.context(u, events, state)
        return context.float(), state._replace(conv=tail, memory=memory, time=events.last_time)

    mixer.mix = mix
    return model


VARIANTS: dict[str, Callable[[int], LiquidTextGenerationModel]] = {
    "liquid": liquid,
    "TTTT": _pattern("TTTT"),
    "MMMM": _pattern("MMMM"),
    "TMTM": _pattern("TMTM"),
    "TTTM": _pattern("TTTM"),
    "MTTT": _pattern("MTTT"),
    "plain embedding": _plain_embedding,
    "plain tied embedding": lambda vocab: _plain_embedding(vocab, tied=True),
    "gated": _gated,
    "no convolution": _no_conv,
    "memory without time cell": _memory_without_cell,
    "1 head": lambda vocab: liquid(vocab, num_heads=1),
    "8 heads": lambda vocab: liquid(vocab, num_heads=8),
    "no n-grams, MLP of 3 H": lambda vocab: liquid(vocab, ngram_rows=0, intermediate_size=768),
    "three blocks, MLP of 3 H": lambda vocab: liquid(
        vocab, num_hidden_layers=3, intermediate_size=768, ngram_dim=19
    ),
    "n-grams up to 5": lambda vocab: liquid(vocab, ngram_max=5, ngram_dim=18),
    "8,192 rows of 48": lambda vocab: liquid(vocab, ngram_rows=8192, ngram_dim=48),
    "MLP of H, n-grams of 32": lambda vocab: liquid(vocab, intermediate_size=256, ngram_dim=32),
    "flow weight 0.01": lambda vocab: liquid(vocab, flow_loss_weight=0.01),
}


def build_variant(name: str, vocab: int, length: int) -> LanguageModel:
    """A peer, or a variant of ours."""
    return build(name, vocab, length) if name in MODELS else Ours(VARIANTS[name](vocab))
