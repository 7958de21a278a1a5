"""The liquid models as transformers has them: saved, loaded, checkpointed, and with `generate()`.

They are the plain models of `body.py` and `language_model.py`. Only this file, and `generation.py` that it
imports, need transformers' models, whose import takes seconds.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, cast

from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from ..errors import LiquidError
from .block import LiquidBlocks
from .body import LiquidBody
from .config import LiquidConfig
from .generation import LiquidGenerationMixin
from .language_model import LiquidLanguageModel
from .loading import LoadingMixin


class CheckpointedBlocks(GradientCheckpointingLayer, LiquidBlocks):
    """All blocks, with activation checkpointing if it is on.

    The activations of a segment are computed again in the backward pass, and only x is kept for it. A
    checkpoint per block would keep one x per block.
    """


class LiquidModel(LoadingMixin, LiquidBody, PreTrainedModel):
    """Tokens ▶ a hidden state after each: the language model without its output layer and time head.

        >>> import torch
        >>> body = LiquidModel(LiquidConfig(vocab_size=64, hidden_size=16, num_hidden_layers=2)).eval()
        >>> body(torch.tensor([[5, 6, 7]])).last_hidden_state.shape
        torch.Size([1, 3, 16])

    Args:
        config: all sizes and choices.
    """

    config: LiquidConfig  # pyright: ignore[reportIncompatibleVariableOverride]
    config_class = LiquidConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    gradient_checkpointing = False
    _is_stateful = True
    _no_split_modules = ["LiquidBlock", "OptimizedLiquidEmbeddingMFR"]  # noqa: RUF012 - transformers' declaration
    blocks_class = CheckpointedBlocks

    def __init__(self, config: LiquidConfig):
        super().__init__(config)
        self._build(config)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Does nothing: every part initialises itself when it is built."""

    def get_input_embeddings(self) -> nn.Module:
        """The embedding's table."""
        return self.embedding.embedding

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the embedding's table."""
        self.embedding.embedding = cast(nn.Embedding, value)

    def recompute_activations(self) -> None:
        """Turn on activation checkpointing, under the name that the installed transformers has for it."""
        enable = getattr(self, "activation_checkpointing_enable", None) or self.gradient_checkpointing_enable
        enable()

    def _set_gradient_checkpointing(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, enable: bool = True, gradient_checkpointing_func: Callable = checkpoint, **kwargs: Any
    ) -> None:
        """As in transformers, but never reentrant: that form loses gradients of tensors in lists."""
        newer = partial(gradient_checkpointing_func, use_reentrant=False)
        super()._set_gradient_checkpointing(enable, newer, **kwargs)


class LiquidTextGenerationModel(  # pyright: ignore[reportIncompatibleMethodOverride]
    LiquidLanguageModel, LiquidModel, LiquidGenerationMixin
):
    """A causal language model in continuous time: every token is an event with a time.

        p(token_{i+1}, Δ_{i+1} | past) = p(token_{i+1} | past) · p(Δ_{i+1} | token_{i+1}, past)

    The second factor is the distribution of the gap Δ before the next token. It comes from the time head,
    which a model has if `time_components` is more than 0.

        >>> import torch
        >>> model = LiquidTextGenerationModel(64, 16, 8, 16, num_hidden_layers=2).eval()
        >>> ids = torch.tensor([[5, 6, 7]])
        >>> model(ids, timestamps=torch.tensor([[0.0, 0.5, 9.0]])).logits.shape
        torch.Size([1, 3, 64])
        >>> first = model(ids[:, :2])  # the same text in two parts
        >>> rest = model(ids[:, 2:], past_key_values=first.state)
        >>> torch.allclose(rest.logits, model(ids).logits[:, 2:], atol=1e-5)
        True

    Args:
        vocab_size: V, or a `LiquidConfig`, which then has all other sizes.
        embedding_dim: E, width of the embedding's table.
        latent_dim: Z ≤ E, width that the embedding's flow reduces E to.
        hidden_size: H, width of the blocks.
        options: other fields of `LiquidConfig`.

    Raises:
        LiquidError: sizes that are out of range, or sizes beside a config.
    """

    body_class = LiquidModel
    _tied_weights_keys = {"output_proj.weight": "embedding.embedding.weight"}  # noqa: RUF012 - a declaration

    def __init__(
        self,
        vocab_size: int | LiquidConfig = 32000,
        embedding_dim: int = 512,
        latent_dim: int = 128,
        hidden_size: int = 256,
        **options: Any,
    ):
        if isinstance(vocab_size, LiquidConfig):
            config = vocab_size
            beside = {"embedding_dim": embedding_dim, "latent_dim": latent_dim, "hidden_size": hidden_size}
            if options or tuple(beside.values()) != (512, 128, 256):
                names = ", ".join(options or beside)
                raise LiquidError(f"{names} and a config cannot be given together: set them in the config")
        else:
            sizes = {"embedding_dim": embedding_dim, "latent_dim": latent_dim, "hidden_size": hidden_size}
            config = LiquidConfig(vocab_size=vocab_size, **sizes, **options)
        super().__init__(config)
        self.loss_type = "ForCausalLM"  # Trainer counts labels as those of a model that shifts them

    @property
    def model(self) -> LiquidModel:
        """The model without its output layer and time head: transformers reads it as `base_model`.

        It shares its parts with this model.
        """
        body = cast(LiquidModel, super().model)
        body.gradient_checkpointing = self.gradient_checkpointing
        return body

    def get_output_embeddings(self) -> nn.Module:
        """The output layer."""
        return self.output_proj

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        """Replace the output layer."""
        self.output_proj = new_embeddings

    def resize_token_embeddings(self, *args: Any, **kwargs: Any) -> nn.Embedding:
        """As in transformers; the time head's table is resized too."""
        resized = super().resize_token_embeddings(*args, **kwargs)
        if self.time_head is not None:
            self.time_head.resize(self.embedding.vocab_size)
        return cast(nn.Embedding, resized)
