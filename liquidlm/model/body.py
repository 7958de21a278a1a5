"""The body of the language model: embedding stage (and n-grams) ▶ blocks ▶ norm.

Symbols: B batch, T tokens, V vocabulary, E embedding, Z latent, H hidden, N heads.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import Cache, PreTrainedModel
from transformers.utils.generic import can_return_tuple

from ..errors import LiquidError
from ..nn import state_tree  # noqa: F401 - torch.export learns of states
from ..nn.cells import TimeMixer
from ..nn.embedding import OptimizedLiquidEmbeddingMFR, TokenVectors, with_random_ids
from ..nn.events import Events
from ..nn.ngram import NGramEmbedding
from ..nn.norm import Norm
from ..nn.padding import PaddingOrder
from ..nn.state import CellState, LiquidCache, liquid_layers
from ..nn.timestamps import in_float64
from ..runtime.offload import execution_device
from ..runtime.precision import check_float64
from .block import LiquidBlock, LiquidBlocks
from .config import LiquidConfig
from .folded import FoldedEmbedding
from .labels import document_starts
from .loading import LoadingMixin
from .output import LiquidModelOutput

SEGMENT = 4096
"""Tokens that go through all blocks together."""

Hidden = list[Float[Tensor, "b t h"]]
"""The input of every block, and the last one's output."""


@dataclass
class Reading:
    """The tokens of one call as the blocks take them, padding moved to the right end.

    Attributes:
        vectors: x of each token.
        padding: the order of the reading, and the way back.
        starts: where documents start, in the order that was given.
        states: before the first token; after `LiquidModel.read` after the last.
        cache: what takes the states, if anything does.
    """

    vectors: TokenVectors
    ids: Int[Tensor, "b t"]
    events: Events
    padding: PaddingOrder
    starts: Bool[Tensor, "b t"] | None
    states: list[CellState]
    cache: Cache | None


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
        """One pass over T tokens of each row; arguments and errors as `LiquidTextGenerationModel.forward`."""
        input_ids = only_ids(input_ids, kwargs)
        reading = self.prepare(
            input_ids,
            attention_mask,
            t_span,
            timestamps,
            position_ids,
            past_key_values,
            use_cache,
            seq_idx,
            starts,
            folded=table,
        )
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        hidden = self.read(reading, all_hidden=bool(output_hidden_states))
        text, time = self.features(hidden)
        return LiquidModelOutput(
            last_hidden_state=text,
            past_key_values=reading.cache if self._keeps_state(use_cache) else None,
            hidden_states=self.hidden_states(hidden) if output_hidden_states else None,
            log_det=reading.vectors.log_det,
            features=time,
        )

    def _keeps_state(self, use_cache: bool | None) -> bool:
        return self.config.use_cache and not self.training if use_cache is None else use_cache

    def prepare(
        self,
        input_ids: Int[Tensor, "b t"],
        attention_mask: Tensor | None,
        t_span: Tensor | None,
        timestamps: Tensor | None,
        position_ids: Tensor | None,
        past_key_values: Cache | None,
        use_cache: bool | None,
        seq_idx: Tensor | None,
        starts: Tensor | None,
        *,
        folded: FoldedEmbedding | None = None,
        flow_loss: bool = False,
        flow_ids: Tensor | None = None,
    ) -> Reading:
        """What is to be read, checked, from what `forward` is given."""
        check_float64(input_ids.device)
        if timestamps is not None:
            timestamps = in_float64(timestamps, self.config.time_scale)
        batch, length = check_tokens(input_ids, timestamps=timestamps, seq_idx=seq_idx, starts=starts)
        mask = None if attention_mask is None else attention_mask[:, -length:]
        if mask is not None and mask.shape != input_ids.shape:
            raise LiquidError(
                f"attention_mask {tuple(mask.shape)} does not cover input_ids {(batch, length)}"
            )
        cache = past_key_values
        if cache is not None and (layers := len(liquid_layers(cache))) != len(self.blocks):
            raise LiquidError(
                f"the state has {layers} layers, the model {len(self.blocks)}: it is another model's"
            )
        if cache is None and self._keeps_state(use_cache):
            cache = self.new_state()
        vectors = self._embed(input_ids, mask, t_span, folded, flow_loss, flow_ids)
        padding = PaddingOrder.of(mask)
        starts = document_starts(starts, position_ids, seq_idx, input_ids, padding.real)
        states = self._states(cache, batch, vectors.table)
        events = Events.build(
            timestamps,
            states[0].time,
            length=length,
            time_scale=self.config.time_scale,
            gap_weight=self.config.gap_weight,
            start=starts,
            real=padding.real,
            dtype=states[0].h.dtype,
        )
        vectors = replace(vectors, index=padding.apply(vectors.index))
        input_ids = padding.apply(input_ids)
        events = events.reordered(padding)
        return Reading(vectors, input_ids, events, padding, starts, states, cache)

    def read(
        self,
        reading: Reading,
        first_kept: int = 0,
        all_hidden: bool = False,
        each: Callable[[slice, Hidden], None] | None = None,
    ) -> Hidden:
        """Through all blocks, segment by segment, and into the cache; what is asked for of the hidden states.

        Kept are those from position `first_kept` on: all of them, or those that logits and gaps are made of.
        `each` is shown every segment's.
        """
        ids, states, kept = reading.ids, reading.states, []
        least = 1 if self.time_norm is None else 2  # hidden states that logits and gaps are made of
        for part in segments(ids.shape[0], ids.shape[1], ids.device):
            x, now = reading.vectors.x(part), reading.events.part(part)
            past = states[0].past_ids
            if self.ngrams is not None and past is not None:
                more, past = self.ngrams(ids[:, part], now, past)
                x = x + more
            hidden, states = self.blocks(x, self.clocks(now), states, self.time_norm is not None)
            states[0] = states[0]._replace(past_ids=past)
            if each is not None:
                each(part, hidden)
            if part.stop > first_kept:
                wanted, cut = hidden if all_hidden else hidden[-least:], max(0, first_kept - part.start)
                kept.append([x[:, cut:] if cut else x for x in wanted])
        reading.states = states
        if reading.cache is not None:
            for layer, state in zip(liquid_layers(reading.cache), states, strict=True):
                layer.store(state, ids.shape[1])
        # One part is what the blocks saw, not a copy of it: its gradient can be asked for.
        hidden = [parts[0] if len(parts) == 1 else torch.cat(parts, 1) for parts in zip(*kept, strict=True)]
        return [reading.padding.undo(x) for x in hidden]

    def _embed(
        self,
        input_ids: Tensor,
        mask: Tensor | None,
        t_span: Tensor | None,
        folded: FoldedEmbedding | None,
        flow_loss: bool,
        flow_ids: Tensor | None,
    ) -> TokenVectors:
        if folded is not None and t_span is None and not self.training:
            self.embedding.check_ids(input_ids)
            return folded.vectors(input_ids)
        if flow_loss and self.config.tie_word_embeddings:
            seen = input_ids if mask is None else input_ids[mask != 0]
            flow_ids = with_random_ids(seen if flow_ids is None else flow_ids, self.config.vocab_size)
        return self.embedding.distinct(
            input_ids, mask, self._t_span(t_span), with_flow_loss=flow_loss, flow_ids=flow_ids
        )

    def _states(self, cache: Cache | None, batch: int, x: Tensor) -> list[CellState]:
        """The state each block starts from: the cache's, or a fresh one."""
        states = [None] * len(self.blocks)
        if cache is not None:
            states = [layer.state for layer in liquid_layers(cache)]
        fresh = self.initial_states(batch, x.dtype, x.device)
        pairs = enumerate(zip(states, fresh, strict=True))
        return [new if own is None else own.fitted(new, f"layer {i}") for i, (own, new) in pairs]


def only_ids(input_ids: Tensor | None, others: Mapping[str, Any]) -> Tensor:
    """The ids; LiquidError if there are none, or embeddings are given."""
    refuse_embeddings(others)
    if input_ids is None:
        raise LiquidError("input_ids are missing: give the token ids, (batch, tokens)")
    return input_ids


def refuse_embeddings(given: Mapping[str, Any]) -> None:
    """LiquidError if there are embeddings among the arguments: a liquid model does not read them."""
    if given.get("inputs_embeds") is not None:
        raise LiquidError(
            "a liquid model reads input_ids, not inputs_embeds: its n-grams, and its embedding stage at"
            " inference, are tables by token id. Give input_ids; to adapt the model use LoRA, not a prompt of"
            " embeddings (prompt tuning, prefix tuning, P-tuning)"
        )


def check_tokens(input_ids: Tensor, **per_token: Tensor | None) -> tuple[int, int]:
    """(B, T); LiquidError if there are no tokens, or what is given for each has another shape."""
    if input_ids.dim() != 2 or input_ids.numel() == 0:
        raise LiquidError(
            f"input_ids must be (batch, tokens), with at least one token, not {tuple(input_ids.shape)}"
        )
    for name, given in per_token.items():
        if given is not None and given.shape != input_ids.shape:
            raise LiquidError(
                f"{name} must have the shape of the tokens, {tuple(input_ids.shape)},"
                f" not {tuple(given.shape)}"
            )
    return input_ids.shape[0], input_ids.shape[1]


def segments(batch: int, length: int, device: torch.device) -> Iterator[slice]:
    """Slices of 0…length of at most SEGMENT tokens in all rows together; a GPU has room for more."""
    tokens = SEGMENT if device.type == "cpu" else 16 * SEGMENT
    size = max(1, tokens // batch)
    return (slice(first, min(first + size, length)) for first in range(0, length, size))
