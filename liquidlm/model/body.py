"""The body of the language model: embedding stage (and n-grams) ▶ blocks ▶ norm.

The stages of a forward pass are listed in `language_model.py`.

Symbols: B batch, T tokens, V vocabulary, E embedding, Z latent, H hidden, N heads.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar, cast

import torch
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor, nn
from transformers import Cache
from transformers.utils.generic import can_return_tuple

from ..nn import state_tree  # noqa: F401 - torch.export learns of states
from ..nn.cells import TimeMixer
from ..nn.counts import CountMemory
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
from .output import LiquidModelOutput
from .segments import Hidden, run

Model = TypeVar("Model", bound="LiquidBody")


class LiquidBody(nn.Module):
    """Tokens ▶ a hidden state after each: the language model without its output layer and time head.

    A model with a time head has one more block, for the time head alone. It reads the output of the other
    blocks, and its gradient stops there: the other blocks learn as in a model without a time head.

        >>> body = LiquidBody.of(LiquidConfig(vocab_size=64, hidden_size=16, num_hidden_layers=2)).eval()
        >>> body(torch.tensor([[5, 6, 7]])).last_hidden_state.shape
        torch.Size([1, 3, 16])
    """

    config: LiquidConfig
    blocks_class: type[LiquidBlocks] = LiquidBlocks
    _parts = ("embedding", "ngrams", "blocks", "norm", "time_norm", "counts")

    @classmethod
    def of(cls: "type[Model]", config: LiquidConfig) -> "Model":
        """A model with random weights. The classes of transformers are built by their own constructors.

        Args:
            config: all sizes and choices.
        """
        model = cls()
        model.config = config
        model._build(config)
        return model

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
        self.blocks = self.blocks_class(
            LiquidBlock(config, kind) for kind in cast(list[str], config.mixer_types)
        )
        self.norm = Norm(config.hidden_size, config.norm_eps)
        self.counts = None
        if config.count_orders:
            self.counts = CountMemory(config.count_orders, config.count_lines, config.count_training_lines)
        self.time_norm = None
        if config.time_components:
            self.blocks.append(LiquidBlock(config, "time"))
            self.time_norm = Norm(config.hidden_size, config.norm_eps)

    @property
    def device(self) -> torch.device:
        """The device it computes on; accelerate may keep its weights elsewhere."""
        own = next(self.parameters()).device
        return (execution_device(self) or own) if own.type == "meta" else own

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights."""
        return next(weight.dtype for weight in self.parameters() if weight.is_floating_point())

    def new_state(self) -> LiquidCache:
        """An empty state, to give as `past_key_values` with the first tokens."""
        return LiquidCache(len(self.blocks))

    def initial_states(self, batch: int, dtype: torch.dtype, device: torch.device) -> list[CellState]:
        """The state of each block before the first token.

        Args:
            batch: number of rows.
            dtype: the states are in this type, or in float32 if it is lower.
            device: of the states.
        """
        mixers = [cast(TimeMixer, block.mixer) for block in self.blocks]
        states = [mixer.initial_state(batch, dtype, device) for mixer in mixers]
        if self.ngrams is not None:
            states[0] = states[0]._replace(past_ids=self.ngrams.no_past(batch, device))
        if self.counts is not None:
            counts, context = self.counts.empty(batch, device)
            states[0] = states[0]._replace(counts=counts, context=context)
        return states

    def clocks(self, events: Events) -> list[Events]:
        """The events for each block: the time head's block forgets by gaps alone, without `gap_weight`."""
        own = [events] * len(self.blocks)
        if self.time_norm is not None:
            own[-1] = replace(events, gap_weight=None)
        return own

    def features(
        self, hidden: Sequence[Float[Tensor, "*b h"]]
    ) -> tuple[Float[Tensor, "*b h"], Float[Tensor, "*b h"] | None]:
        """The input of the output layer and, with a time head, the input of `next_gap`.

        Args:
            hidden: `Hidden`, or its last entries (`last`).
        """
        if self.time_norm is None:
            return self.norm(hidden[-1]), None
        return self.norm(hidden[-2]), self.time_norm(hidden[-1])

    def last(self, hidden: Hidden) -> Hidden:
        """The hidden states that `features` takes."""
        return hidden[-1:] if self.time_norm is None else hidden[-2:]

    def hidden_states(self, hidden: Hidden) -> tuple[Float[Tensor, "b t h"], ...]:
        """The inputs of the blocks of the text, and the last one's output after the norm."""
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
        hidden, _ = run(self, batch, all_hidden=all_hidden)
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
