"""The models that training is compared with: ours and its peers, of one size, behind one interface.

All have width 256, untied embedding and output layer, and as many parameters as ours to within 5 %; each
is its own package's, initialised as its makers do, without caches.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.optim import AdamW

from liquidlm import LiquidConfig, LiquidTextGenerationModel
from liquidlm.optim import Optimisers

WIDTH = 256
OURS = "liquidlm"
STEPWISE = ("cfc", "ltc")
"""Peers that call a Python cell per token: their packages have no form that is parallel over time."""


class LanguageModel(nn.Module, ABC):
    """A model of the next token."""

    @abstractmethod
    def loss(self, ids: Int[Tensor, "b t"]) -> Float[Tensor, ""]:
        """Cross-entropy of every token after the first, mean nats per token."""


class CausalLM(LanguageModel):
    """A causal LM of the transformers interface, ours among them.

    In training mode ours adds its flow's term to the loss, as `liquidlm train` does.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def loss(self, ids: Int[Tensor, "b t"]) -> Float[Tensor, ""]:
        return self.model(ids, labels=ids, use_cache=False).loss


class RecurrentStack(LanguageModel):
    """Embedding ▶ recurrent layers ▶ output layer; a layer maps (B,T,H) to (B,T,H) and a state."""

    def __init__(self, vocab: int, layers: list[nn.Module]):
        super().__init__()
        self.embedding = nn.Embedding(vocab, WIDTH)
        self.layers = nn.ModuleList(layers)
        self.output = nn.Linear(WIDTH, vocab, bias=False)

    def loss(self, ids: Int[Tensor, "b t"]) -> Float[Tensor, ""]:
        x = self.embedding(ids)
        for layer in self.layers:
            x, _ = layer(x)
        return F.cross_entropy(self.output(x[:, :-1]).flatten(0, 1).float(), ids[:, 1:].flatten())


def _liquidlm(vocab: int, length: int) -> LanguageModel:
    sizes: dict[str, Any] = {"hidden_size": WIDTH, "embedding_dim": WIDTH, "latent_dim": WIDTH // 2}
    config = LiquidConfig(vocab_size=vocab, num_hidden_layers=4, dropout_rate=0.0, **sizes)
    return CausalLM(LiquidTextGenerationModel(config))


def _common(vocab: int) -> dict[str, Any]:
    """What every transformers config here says."""
    tokens = {"pad_token_id": None, "bos_token_id": None, "eos_token_id": None}
    return {
        **tokens,
        "vocab_size": vocab,
        "hidden_size": WIDTH,
        "tie_word_embeddings": False,
        "use_cache": False,
    }


def _llama(vocab: int, length: int) -> LanguageModel:
    """A transformer: causal attention through SDPA, rotary positions, gated MLP (Touvron et al. 2023)."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        **_common(vocab),
        num_hidden_layers=5,
        num_attention_heads=4,
        intermediate_size=640,
        max_position_embeddings=length,
    )
    return CausalLM(LlamaForCausalLM(config))


def _mamba2(vocab: int, length: int) -> LanguageModel:
    """Mamba-2 (Dao & Gu 2024), its chunked form in torch.

    State 64 and chunks of 128: with the package's 128 and 256 a step took 1.6 times as long.
    """
    from transformers import Mamba2Config, Mamba2ForCausalLM

    config = Mamba2Config(
        **_common(vocab),
        num_hidden_layers=9,
        expand=2,
        head_dim=64,
        num_heads=2 * WIDTH // 64,
        state_size=64,
        n_groups=1,
        chunk_size=128,
    )
    return CausalLM(Mamba2ForCausalLM(config))


def _gated_delta(vocab: int, length: int) -> LanguageModel:
    """Gated delta net (Yang et al. 2025) in every layer, with Qwen 3.5's blocks; its chunked form in torch.

    Four heads of 64, as our matrix memory has.
    """
    from transformers import Qwen3_5TextConfig
    from transformers.models.qwen3_5 import Qwen3_5ForCausalLM

    config = Qwen3_5TextConfig(
        **_common(vocab),
        num_hidden_layers=4,
        layer_types=["linear_attention"] * 4,
        linear_num_key_heads=4,
        linear_num_value_heads=4,
        linear_key_head_dim=64,
        linear_value_head_dim=64,
        intermediate_size=800,
        num_attention_heads=4,  # of no layer here
        num_key_value_heads=4,
        head_dim=64,
        max_position_embeddings=length,
    )
    return CausalLM(Qwen3_5ForCausalLM(config))


def _recurrent_gemma(vocab: int, length: int) -> LanguageModel:
    """Hawk (De et al. 2024): the RG-LRU of RecurrentGemma in every layer, a loop over time in torch.

    Chosen over transformers' RWKV, the other recurrent peer there, which took twice its time.
    """
    from transformers import RecurrentGemmaConfig, RecurrentGemmaForCausalLM

    config = RecurrentGemmaConfig(
        **_common(vocab),
        num_hidden_layers=5,
        block_types=["recurrent"],
        lru_width=WIDTH,
        intermediate_size=1408,  # both halves of the gated MLP together
        num_attention_heads=4,
    )
    return CausalLM(RecurrentGemmaForCausalLM(config))


def _lstm(vocab: int, length: int) -> LanguageModel:
    """torch.nn.LSTM, seven layers."""
    return RecurrentStack(vocab, [nn.LSTM(WIDTH, WIDTH, num_layers=7, batch_first=True)])


def _cfc(vocab: int, length: int) -> LanguageModel:
    """ncps' CfC (Hasani et al. 2022); a backbone as wide as the state, since fewer layers are quicker."""
    from ncps.torch import CfC

    return RecurrentStack(vocab, [CfC(WIDTH, WIDTH, backbone_units=WIDTH) for _ in range(10)])


def _ltc(vocab: int, length: int) -> LanguageModel:
    """ncps' LTC (Hasani et al. 2021): six solver steps per token, each over all pairs of neurons."""
    from ncps.torch import LTC

    return RecurrentStack(vocab, [LTC(WIDTH, WIDTH) for _ in range(7)])


MODELS: dict[str, Callable[[int, int], LanguageModel]] = {
    OURS: _liquidlm,
    "llama": _llama,
    "mamba2": _mamba2,
    "gated_delta": _gated_delta,
    "recurrent_gemma": _recurrent_gemma,
    "lstm": _lstm,
    "cfc": _cfc,
    "ltc": _ltc,
}


def build(name: str, vocab: int, length: int) -> LanguageModel:
    """A model of MODELS over a vocabulary, for sequences of up to `length` tokens."""
    return MODELS[name](vocab, length)


def parameters(model: nn.Module) -> int:
    """How many numbers are trained."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def updates(model: nn.Module) -> Callable[[], object]:
    """A function that updates all parameters and clears the gradients: ours with its own optimisers, the
    peers with AdamW at 1e-3."""
    if isinstance(model, CausalLM) and isinstance(model.model, LiquidTextGenerationModel):
        ours = Optimisers(model.model)
        return lambda: ours.step(step=0, progress=0.0)
    adam = AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)

    def update() -> None:
        adam.step()
        adam.zero_grad(set_to_none=True)

    return update
