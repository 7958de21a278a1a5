"""The models that training is compared with: ours and its peers, of one size, behind one interface.

All have untied embedding and output layer and as many parameters as ours to within 5 %, most at width 256,
unless a probe says otherwise; each is its own package's, initialised as its makers do, and has no cache.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim import AdamW, Optimizer

from benchmarks.language_models import Counted, LanguageModel, Ours, Peer
from liquidlm import LiquidConfig, LiquidTextGenerationModel
from liquidlm.model.sizes import LETTERS
from liquidlm.nn.counts import CountMemory
from liquidlm.ops import liquid_scan
from liquidlm.training.groups import ADAM, COUNTS, FAST_SHARE
from liquidlm.training.optim import Optimisers, liquid_optimisers, muon_and_adamw

WIDTH = 256
OURS, WITH_COUNTS, WITH_RECENT_COUNTS = (
    "liquidlm",
    "liquidlm with counts",
    "liquidlm with counts of the text so far",
)
PEER_TABLE_SHARE = 10.0
"""The rate of an embedding's table over that of the rest, in the recipe "adamw-table"."""
OUTPUTS = ("output_proj", "lm_head", "output")
"""Names of output layers."""
STEPWISE = ("cfc", "ltc")
"""Peers that call a Python cell per token: their packages have no form that is parallel over time."""
SIZES: dict[str, dict[str, dict[str, int]]] = {
    "base": {
        OURS: {"width": 512, "layers": 9},
        "llama": {"width": 512, "layers": 8},
        "lstm": {"width": 640, "layers": 2},
        "mingru": {"width": 496, "layers": 7},
    }
}
"""Of "base/llama" and the others: about 25 million parameters beside the vocabulary's, of bytes."""


class CausalLM(Peer):
    """A causal LM of the transformers interface, whose calls do not go on from one another in training."""

    def __init__(self, model: Any):
        super().__init__()
        self.model = model
        self.output = model.get_output_embeddings()

    def hidden(self, ids, state=None):
        return self.model.base_model(ids, use_cache=False)[0], None


class RecurrentStack(Peer):
    """Embedding ▶ recurrent layers (▶ norm) ▶ output layer; a layer maps (B,T,H) and a state to the same.

    Tied, the output layer is the embedding's table; it begins as an output layer, and is read √H times as
    large, as an embedding begins (Vaswani et al. 2017).
    """

    carries = True

    def __init__(
        self,
        vocab: int,
        width: int,
        layers: list[nn.Module],
        tied: bool = False,
        norm: nn.RMSNorm | None = None,
    ):
        super().__init__()
        self.embedding = nn.Embedding(vocab, width)
        self.layers = nn.ModuleList(layers)
        self.norm = norm or nn.Identity()
        self.output = nn.Linear(width, vocab, bias=False)
        self.gain = 1.0
        if tied:
            self.gain = math.sqrt(width)
            nn.init.normal_(self.embedding.weight, std=1 / self.gain)
            self.output.weight = self.embedding.weight
            if norm is not None:
                nn.init.constant_(norm.weight, 1 / self.gain)  # a token is not its own first guess

    def hidden(self, ids, state=None):
        x, after = self.embedding(ids), []
        if self.gain != 1:
            x = self.gain * x
        for layer, before in zip(self.layers, state or [None] * len(self.layers), strict=True):
            x, new = layer(x, before)
            after.append(tuple(part.detach() for part in new) if isinstance(new, tuple) else new.detach())
        return self.norm(x), after


class LSTM(nn.Module):
    """torch's LSTM (Hochreiter & Schmidhuber 1997) at twice the width, and a projection back.

    Its own projections (`proj_size`) would leave the fast path of the CPU.
    """

    def __init__(self, width: int, layers: int):
        super().__init__()
        self.lstm = nn.LSTM(width, 2 * width, num_layers=layers, batch_first=True)
        self.down = nn.Linear(2 * width, width, bias=False)

    def forward(self, x, state=None):
        h, state = self.lstm(x, state)
        return self.down(h), state


class MinGRU(nn.Module):
    """h_t = (1 − z_t) h_{t−1} + z_t h̃_t, z = σ(W_z x), h̃ = g(W_h x) (Feng et al. 2024, "Were RNNs All We
    Needed?"), in their block: short convolution, minGRU of twice the width, down-projection, MLP, each
    with a norm before and a residual beside. The scan is ours.
    """

    def __init__(self, width: int, expansion: int = 2, mlp: int = 4, taps: int = 4):
        super().__init__()
        self.norms = nn.ModuleList(nn.RMSNorm(width) for _ in range(3))
        self.conv = nn.Conv1d(width, width, taps, groups=width)
        self.gates = nn.Linear(width, 2 * expansion * width, bias=False)
        self.down = nn.Linear(expansion * width, width, bias=False)
        self.mlp = nn.Sequential(nn.Linear(width, mlp * width), nn.GELU(), nn.Linear(mlp * width, width))

    def forward(self, x, state=None):
        taps, wide = self.conv.kernel_size[0] - 1, self.gates.out_features // 2
        tail, h = state or (x.new_zeros(len(x), taps, x.shape[-1]), x.new_zeros(len(x), wide))
        past = torch.cat([tail, self.norms[0](x)], 1)
        x = x + self.conv(past.mT).mT
        z, candidate = self.gates(self.norms[1](x)).float().chunk(2, -1)
        z, candidate = z.sigmoid(), torch.where(candidate >= 0, candidate + 0.5, candidate.sigmoid())
        all_h = liquid_scan(1 - z, z * candidate, h)
        x = x + self.down(all_h.to(x.dtype))
        return x + self.mlp(self.norms[2](x)), (past[:, past.shape[1] - taps :], all_h[:, -1])


def _liquidlm(
    vocab: int, length: int, width: int = WIDTH, layers: int = 4, tied: bool = False, **choices: Any
) -> LanguageModel:
    sizes: dict[str, Any] = {"hidden_size": width, "embedding_dim": width, "latent_dim": width // 2}
    sizes |= {"num_hidden_layers": layers, "dropout_rate": 0.0, "tie_word_embeddings": tied, **choices}
    config = LiquidConfig(vocab_size=vocab, **sizes)
    return Ours(LiquidTextGenerationModel(config))


COUNTED: dict[bool, dict[str, Any]] = {
    True: {"count_orders": [1, 2, 3, 4, 5, 6, 8, 10, 12, 16], "count_training_lines": 1 << 21},
    False: {"count_orders": [1, 2, 3, 4, 6], "count_training_lines": 1 << 18},
}
"""Counts of bytes, or of words."""


def _liquidlm_counts(vocab: int, length: int, **sizes: Any) -> LanguageModel:
    """Ours, with the exact memory: counts of the training text and of the text so far."""
    return _liquidlm(vocab, length, **(COUNTED[vocab <= LETTERS] | sizes))


def _liquidlm_recent(vocab: int, length: int, **sizes: Any) -> LanguageModel:
    """Ours, with counts of the text so far alone."""
    none: dict[str, Any] = {"count_training_lines": 0}
    return _liquidlm(vocab, length, **(COUNTED[vocab <= LETTERS] | none | sizes))


def _with_counts(make: Callable[..., LanguageModel]) -> Callable[..., LanguageModel]:
    """A peer that carries its state, with the counts of `_liquidlm_counts` beside it."""

    def build(vocab: int, length: int, **sizes: Any) -> LanguageModel:
        peer, tables = make(vocab, length, **sizes), COUNTED[vocab <= LETTERS]
        assert isinstance(peer, Peer)
        counts = CountMemory(tables["count_orders"], training_lines=tables["count_training_lines"])
        return Counted(peer, counts)

    return build


def _common(vocab: int, width: int, tied: bool) -> dict[str, Any]:
    """What every transformers config here says."""
    tokens = {"pad_token_id": None, "bos_token_id": None, "eos_token_id": None}
    return {
        **tokens,
        "vocab_size": vocab,
        "hidden_size": width,
        "tie_word_embeddings": tied,
        "use_cache": False,
    }


def _llama(vocab: int, length: int, width: int = WIDTH, layers: int = 5, tied: bool = False) -> LanguageModel:
    """A transformer: causal attention through SDPA, rotary positions, gated MLP (Touvron et al. 2023)."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        **_common(vocab, width, tied),
        num_hidden_layers=layers,
        num_attention_heads=max(1, width // 64),
        intermediate_size=5 * width // 2,
        max_position_embeddings=length,
    )
    return CausalLM(LlamaForCausalLM(config))


def _mamba2(
    vocab: int, length: int, width: int = WIDTH, layers: int = 9, tied: bool = False, state: int = 64
) -> LanguageModel:
    """Mamba-2 (Dao & Gu 2024), its chunked form in torch.

    State 64, unless a probe says otherwise, and chunks of 128: with the package's 128 and 256 a step took 1.6
    times as long.
    """
    from transformers import Mamba2Config, Mamba2ForCausalLM

    config = Mamba2Config(
        **_common(vocab, width, tied),
        num_hidden_layers=layers,
        expand=2,
        head_dim=64,
        num_heads=2 * width // 64,
        state_size=state,
        n_groups=1,
        chunk_size=128,
    )
    return CausalLM(Mamba2ForCausalLM(config))


def _gated_delta(
    vocab: int, length: int, width: int = WIDTH, layers: int = 4, tied: bool = False, head: int = 64
) -> LanguageModel:
    """Gated delta net (Yang et al. 2025) in every layer, with Qwen 3.5's blocks; its chunked form in torch.

    Heads of 64, as our matrix memory has; one of 256 where a probe gives ours that.
    """
    from transformers import Qwen3_5TextConfig
    from transformers.models.qwen3_5 import Qwen3_5ForCausalLM

    config = Qwen3_5TextConfig(
        **_common(vocab, width, tied),
        num_hidden_layers=layers,
        layer_types=["linear_attention"] * layers,
        linear_num_key_heads=width // head,
        linear_num_value_heads=width // head,
        linear_key_head_dim=head,
        linear_value_head_dim=head,
        intermediate_size=25 * width // 8,
        num_attention_heads=4,  # of no layer here
        num_key_value_heads=4,
        head_dim=64,
        max_position_embeddings=length,
    )
    return CausalLM(Qwen3_5ForCausalLM(config))


def _recurrent_gemma(
    vocab: int, length: int, width: int = WIDTH, layers: int = 5, tied: bool = False
) -> LanguageModel:
    """Hawk (De et al. 2024): the RG-LRU of RecurrentGemma in every layer, a loop over time in torch.

    Chosen over transformers' RWKV, the other recurrent peer there, which took twice its time.
    """
    from transformers import RecurrentGemmaConfig, RecurrentGemmaForCausalLM

    config = RecurrentGemmaConfig(
        **_common(vocab, width, tied),
        num_hidden_layers=layers,
        block_types=["recurrent"],
        lru_width=width,
        intermediate_size=11 * width // 2,  # both halves of the gated MLP together
        num_attention_heads=4,
    )
    return CausalLM(RecurrentGemmaForCausalLM(config))


def _lstm(vocab: int, length: int, width: int = WIDTH, layers: int = 2, tied: bool = False) -> LanguageModel:
    """torch.nn.LSTM, two layers of twice the width; seven of the width itself did not begin to learn."""
    return RecurrentStack(vocab, width, [LSTM(width, layers)], tied)


def _mingru(
    vocab: int, length: int, width: int = WIDTH, layers: int = 4, tied: bool = False
) -> LanguageModel:
    """minGRU (Feng et al. 2024), with a norm of its residual stream before the output layer."""
    return RecurrentStack(vocab, width, [MinGRU(width) for _ in range(layers)], tied, nn.RMSNorm(width))


def _cfc(vocab: int, length: int, width: int = WIDTH, layers: int = 2, tied: bool = False) -> LanguageModel:
    """ncps' CfC (Hasani et al. 2022), two wide layers with projections; ten of the width did not learn."""
    from ncps.torch import CfC

    sizes: dict[str, Any] = {"proj_size": width, "backbone_units": 19 * width // 8}
    cells: list[nn.Module] = [CfC(width, 2 * width, **sizes) for _ in range(layers)]
    return RecurrentStack(vocab, width, cells, tied)


def _ltc(vocab: int, length: int, width: int = WIDTH, layers: int = 7, tied: bool = False) -> LanguageModel:
    """ncps' LTC (Hasani et al. 2021): six solver steps per token, each over all pairs of neurons."""
    from ncps.torch import LTC

    return RecurrentStack(vocab, width, [LTC(width, width) for _ in range(layers)], tied)


MODELS: dict[str, Callable[..., LanguageModel]] = {
    OURS: _liquidlm,
    WITH_COUNTS: _liquidlm_counts,
    WITH_RECENT_COUNTS: _liquidlm_recent,
    "llama": _llama,
    "mamba2": _mamba2,
    "gated_delta": _gated_delta,
    "recurrent_gemma": _recurrent_gemma,
    "lstm": _lstm,
    "lstm with counts": _with_counts(_lstm),
    "mingru": _mingru,
    "mingru with counts": _with_counts(_mingru),
    "cfc": _cfc,
    "ltc": _ltc,
}


def build(name: str, vocab: int, length: int, **sizes: Any) -> LanguageModel:
    """A model of MODELS, or one in a size of SIZES ("base/llama"), for sequences of up to `length` tokens.

    `sizes` (width, layers) replace those that make all alike; `tied`, and what else a model takes, too.
    """
    size, _, kind = name.rpartition("/")
    return MODELS[kind](vocab, length, **(SIZES[size][kind] if size else {}), **sizes)


def parameters(model: nn.Module) -> int:
    """How many numbers are trained."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def recipe(model: LanguageModel, name: str, lr: float) -> Optimisers:
    """The optimisers of a training recipe, on the schedule of `liquidlm train`.

    "muon": Muon for the matrices of the layers, AdamW for the rest, as `liquidlm train`; "adamw": AdamW for
    all, with weight decay 0.1 on those matrices; "adamw-table": the same, and PEER_TABLE_SHARE times the
    rate for the embedding's table, where that begins at N(0, 1) as torch's does and ours. The net that
    weighs counts learns at FAST_SHARE times the rate of the other vectors, with any model.
    """
    if name == "muon" and isinstance(model, Ours):
        return liquid_optimisers(model.model, lr)
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    counts = [p for n, p in trained.items() if n.startswith(COUNTS)]
    rest = {n: p for n, p in trained.items() if not n.startswith(COUNTS)}
    inner = {
        id(module.weight)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and name.split(".")[-1] not in OUTPUTS
    }
    inner |= {
        id(p) for m in model.modules() if isinstance(m, nn.LSTM) for p in m.parameters() if p.dim() == 2
    }
    matrices, others = ([p for p in rest.values() if (id(p) in inner) == chosen] for chosen in (True, False))
    if name == "muon":
        optimisers = muon_and_adamw(matrices, others, lr)
    else:
        optimisers = _adamw(model, matrices, others, lr, with_table=name == "adamw-table")
    if counts:
        fast = optimisers.parts[-1][1] * FAST_SHARE
        optimisers.parts.append((AdamW(counts, lr=fast, **ADAM), fast))
    return optimisers


def _adamw(
    model: LanguageModel,
    matrices: list[nn.Parameter],
    others: list[nn.Parameter],
    lr: float,
    with_table: bool,
) -> Optimisers:
    """AdamW for all; `with_table`: the embedding's table at a rate of its own."""
    parts: list[tuple[Optimizer, float]] = []
    if with_table:
        assert isinstance(model, RecurrentStack)
        table, fast = model.embedding.weight, lr * PEER_TABLE_SHARE
        others = [p for p in others if p is not table]
        parts.append((AdamW([table], lr=fast, betas=(0.9, 0.98), weight_decay=0.0), fast))
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    return Optimisers([*parts, (AdamW(groups, lr=lr, betas=(0.9, 0.98)), lr)])
