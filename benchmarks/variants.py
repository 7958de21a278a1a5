"""Our model with one choice made otherwise, for the ablations: what loses lives here and nowhere else."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from benchmarks.peers import MODELS, LanguageModel, Ours, build
from liquidlm import LiquidConfig, LiquidTextGenerationModel

SIZES: dict[str, Any] = {"hidden_size": 192, "embedding_dim": 192, "latent_dim": 96, "num_hidden_layers": 4}


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


class UngatedGate(nn.Module):
    """In place of a block's gate: silu of it is 1."""

    def forward(self, u):
        return torch.full_like(u, 1.2784645)


def _no_gate(vocab: int) -> LiquidTextGenerationModel:
    model = liquid(vocab)
    for block in model.blocks:
        block.gate = UngatedGate()
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
    "no gate": _no_gate,
    "no convolution": _no_conv,
    "memory without time cell": _memory_without_cell,
    "1 head": lambda vocab: liquid(vocab, num_heads=1),
    "6 heads": lambda vocab: liquid(vocab, num_heads=6),
    "flow weight 0.01": lambda vocab: liquid(vocab, flow_loss_weight=0.01),
}


def build_variant(name: str, vocab: int, length: int) -> LanguageModel:
    """A peer, or a variant of ours."""
    return build(name, vocab, length) if name in MODELS else Ours(VARIANTS[name](vocab))
