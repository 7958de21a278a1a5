"""The body of the language model: embedding stage (and n-grams) ▶ blocks ▶ norm.

Symbols: B batch, T tokens, V vocabulary, E embedding, Z latent, H hidden, N heads.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import Cache, PreTrainedModel
from transformers.utils.generic import can_return_tuple

from ..nn import state_tree  # noqa: F401 - torch.export learns of states
from ..nn.cells import TimeMixer
from ..nn.embedding import OptimizedLiquidEmbeddingMFR, TokenVectors, with_random_ids
from ..nn.events import Events
from ..nn.ngram import NGramEmbedding
from ..nn.norm import Norm
from ..nn.state import CellState, LiquidCache
from ..runtime.offload import execution_device
from .batch import prepare
from .block import LiquidBlock, LiquidBlocks
from .config import LiquidConfig
from .folded import FoldedEmbedding
from .inputs import Inputs
from .loading import LoadingMixin
from .output import LiquidModelOutput
from .segments import Hidden, run


class LiquidModel(LoadingMixin, PreTrainedModel):
    """Tokens ▶ what is known after each: the language model without its output layer and time head.

    With a time head there is one more block, the last, for it alone: it reads what the others make of the
    text, and its gradient stops there. So what comes is learned as without it; when has a state of its own.
    """

    config: LiquidConfig  # pyright: ignore[reportIncompatibleVariableOverride]
    config_class = LiquidConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    gradient_checkpointing = False
    _is_stateful = True
    _no_split_modules = ["LiquidBlock", "OptimizedLiquidEmbeddingMFR"]  # noqa: RUF012 - transformers' declaration
    _parts = ("embedding", "ngrams", "blocks", "norm", "time_norm")

    def __init__(self, config: LiquidConfig):
        super().__init__(config)
        self._build(config)
        self.post_init()

    def _build(self, config: LiquidConfig) -> None:
        self.embedding = OptimizedLiquidEmbeddingMFR(
            config.vocab_size,
            config.embedding_dim,
            config.latent_dim,
            config.hidden_size,
            flow_hidden_dim=config.flow_hidden_dim,
            num_flows=config.num_flows,
            decay_factor=config.ode_decay,
            adaptive_factor=config.ode_adaptive,
            method=config.ode_method,
        )
        ngrams = (cast(int, config.ngram_rows), cast(int, config.ngram_dim), config.ngram_max)
        self.ngrams = NGramEmbedding(config.hidden_size, *ngrams) if config.ngram_rows else None
        self.blocks = LiquidBlocks(LiquidBlock(config, kind) for kind in cast(list[str], config.mixer_types))
        self.norm = Norm(config.hidden_size, config.norm_eps)
        self.time_norm = None
        if config.time_components:
            self.blocks.append(LiquidBlock(config, "time"))
            self.time_norm = Norm(config.hidden_size, config.norm_eps)

    def _init_weights(self, module: nn.Module) -> None:
        """Nothing: every part initialises itself when built, as it must to be usable alone."""

    @property
    def device(self) -> torch.device:
        """Where it computes; its weights may be kept elsewhere (accelerate)."""
        own = next(self.parameters()).device
        return (execution_device(self) or own) if own.type == "meta" else own

    def get_input_embeddings(self) -> nn.Module:
        return self.embedding.embedding

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.embedding.embedding = cast(nn.Embedding, value)

    def recompute_activations(self) -> None:
        """Activation checkpointing, by whichever name this transformers has for it."""
        enable = getattr(self, "activation_checkpointing_enable", None) or self.gradient_checkpointing_enable
        enable()

    def _set_gradient_checkpointing(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, enable: bool = True, gradient_checkpointing_func: Callable = checkpoint, **kwargs: Any
    ) -> None:
        """As transformers', in torch's newer form always: the other loses gradients of what is in lists."""
        newer = partial(gradient_checkpointing_func, use_reentrant=False)
        super()._set_gradient_checkpointing(enable, newer, **kwargs)

    def new_state(self) -> LiquidCache:
        """An empty state, before the first token."""
        return LiquidCache(len(self.blocks))

    def initial_states(self, batch: int, dtype: torch.dtype, device: torch.device) -> list[CellState]:
        """Every block's state before the first token."""
        mixers = [cast(TimeMixer, block.mixer) for block in self.blocks]
        states = [mixer.initial_state(batch, dtype, device) for mixer in mixers]
        if self.ngrams is not None:
            states[0] = states[0]._replace(past_ids=self.ngrams.no_past(batch, device))
        return states

    def clocks(self, events: Events) -> list[Events]:
        """The events as each block counts them: the time head's forgets by gaps alone."""
        own = [events] * len(self.blocks)
        if self.time_norm is not None:
            own[-1] = replace(events, gap_weight=None)
        return own

    def features(
        self, hidden: Sequence[Float[Tensor, "*b h"]]
    ) -> tuple[Float[Tensor, "*b h"], Float[Tensor, "*b h"] | None]:
        """What logits are made of and, with a time head, what `next_gap` takes; of the last of `Hidden`."""
        if self.time_norm is None:
            return self.norm(hidden[-1]), None
        return self.norm(hidden[-2]), self.time_norm(hidden[-1])

    def last(self, hidden: Hidden) -> Hidden:
        """The hidden states that `features` takes."""
        return hidden[-1:] if self.time_norm is None else hidden[-2:]

    def hidden_states(self, hidden: Hidden) -> tuple[Float[Tensor, "b t h"], ...]:
        """As transformers names them: the inputs of the text's blocks, and the last one's output, normed."""
        text = hidden if self.time_norm is None else hidden[:-1]
        return *text[:-1], self.norm(text[-1])

    @torch.no_grad()
    def fold(self) -> Float[Tensor, "v h"]:
        """The embedding stage as one table, a row per token id; see `FoldedEmbedding`."""
        return self.embedding.fold(self._t_span(None))

    def _t_span(self, t_span: Tensor | None) -> Tensor:
        if t_span is not None:
            return t_span
        return torch.linspace(0, 1, self.config.ode_steps + 1)

    @can_return_tuple
    def forward(
        self,
        input_ids: Int[Tensor, "b t"] | None = None,
        attention_mask: Num[Tensor, "b s"] | Bool[Tensor, "b s"] | None = None,
        t_span: Float[Tensor, " n"] | None = None,
        timestamps: Num[Tensor, "b t"] | None = None,
        position_ids: Int[Tensor, "..."] | None = None,
        past_key_values: Cache | None = None,
        use_cache: bool | None = None,
        seq_idx: Int[Tensor, "b t"] | None = None,
        starts: Bool[Tensor, "b t"] | None = None,
        output_hidden_states: bool | None = None,
        table: FoldedEmbedding | None = None,
        **kwargs: Any,
    ) -> LiquidModelOutput:
        """One pass over T tokens of each row: check ▶ prepare ▶ run ▶ output.

        Arguments and errors are those of `LiquidTextGenerationModel.forward`.
        """
        inputs = self.check_inputs(
            input_ids, attention_mask, timestamps, position_ids, seq_idx, starts, kwargs
        )
        vectors = self.embed(inputs, t_span, table)
        batch = prepare(self, inputs, vectors, self.cache_for(past_key_values, use_cache))
        all_hidden = self.returns_hidden(output_hidden_states)
        hidden = run(self, batch, all_hidden=all_hidden)
        text, time = self.features(hidden)
        return LiquidModelOutput(
            last_hidden_state=text,
            past_key_values=batch.cache if self.returns_state(use_cache) else None,
            hidden_states=self.hidden_states(hidden) if all_hidden else None,
            log_det=vectors.log_det,
            features=time,
        )

    def check_inputs(
        self,
        input_ids: Tensor | None,
        attention_mask: Tensor | None,
        timestamps: Tensor | None,
        position_ids: Tensor | None,
        seq_idx: Tensor | None,
        starts: Tensor | None,
        others: Mapping[str, Any],
    ) -> Inputs:
        """The arguments of a forward pass, checked; see `Inputs.checked`."""
        given = (input_ids, attention_mask, timestamps, position_ids, seq_idx, starts)
        return Inputs.checked(*given, time_scale=self.config.time_scale, others=others)

    def embed(
        self,
        inputs: Inputs,
        t_span: Float[Tensor, " n"] | None,
        table: FoldedEmbedding | None,
        *,
        with_flow_loss: bool = False,
        flow_ids: Int[Tensor, "..."] | None = None,
    ) -> TokenVectors:
        """The embedding stage's vectors of the tokens.

        Args:
            t_span: times of the embedding's ODE; None: those of the config.
            table: the folded stage; used if there is no t_span, and not in training mode.
            with_flow_loss: also compute the flow's training term.
            flow_ids: the ids that this term is computed from; None: the tokens without padding.
        """
        if table is not None and t_span is None and not self.training:
            self.embedding.check_ids(inputs.ids)
            return table.vectors(inputs.ids)
        if with_flow_loss and self.config.tie_word_embeddings:
            if flow_ids is None:
                flow_ids = inputs.ids if inputs.mask is None else inputs.ids[inputs.mask != 0]
            flow_ids = with_random_ids(flow_ids, self.config.vocab_size)
        times = self._t_span(t_span)
        return self.embedding.distinct(
            inputs.ids, inputs.mask, times, with_flow_loss=with_flow_loss, flow_ids=flow_ids
        )

    def cache_for(self, past_key_values: Cache | None, use_cache: bool | None) -> Cache | None:
        """The state to go on from; a new one if none is given and the caller wants the state."""
        if past_key_values is None and self.returns_state(use_cache):
            return self.new_state()
        return past_key_values

    def returns_state(self, use_cache: bool | None) -> bool:
        """Whether the output has the state: by default as in the config, and never in training mode."""
        return self.config.use_cache and not self.training if use_cache is None else use_cache

    def returns_hidden(self, output_hidden_states: bool | None) -> bool:
        """Whether the output has the hidden states of all blocks: by default as in the config."""
        given = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        return bool(given)
