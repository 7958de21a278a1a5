"""The liquid language model: embedding stage (and n-grams) ▶ blocks ▶ norm ▶ output projection.

Symbols: B batch, T tokens, V vocabulary, E embedding, Z latent, H hidden, N heads.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import AutoConfig, AutoModelForCausalLM, Cache, PreTrainedModel
from transformers.utils.generic import ModelOutput, can_return_tuple

from .block import LiquidBlock, plain_weight
from .cells import TimeMixer
from .config import LiquidConfig
from .embedding import OptimizedLiquidEmbeddingMFR, and_unmet
from .errors import LiquidError
from .events import Events, padding_last
from .hooks import LiquidGenerationMixin
from .labels import document_starts, shifted
from .ngram import NGramEmbedding
from .norm import Norm
from .ops import IGNORED, linear_cross_entropy
from .state import CellState, LiquidCache, LiquidStateLayer
from .time_head import GapDistribution, TimeHead
from .timestamps import next_gaps

SEGMENT = 4096
"""Tokens that go through all blocks together."""


@dataclass
class LiquidOutput(ModelOutput):
    """What the model returns; `state` is another name for `past_key_values`.

    Attributes:
        loss: nats per token, of what comes and, with timestamps and a time head, of when; if labels were
            given. In training mode the flow's term is added.
        logits: (B, T, V); None in training mode with labels, where they never exist whole.
        past_key_values: the state of every layer after the last token, if `use_cache`.
        hidden_states: input of every block and the last block's output, if asked for.
        log_det: (B, T) log |det| of the embedding's flow; None where the folded table was used.
        flow_loss: the flow's term of the loss, not yet weighted; in training mode only.
        time_loss: the part of the loss that says when, nats per token, gaps in units of time_scale.
        features: what the distributions of the next gaps (`next_gap`) are made of, where there are logits;
            of a model with a time head.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    past_key_values: Cache | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    log_det: Tensor | None = None
    flow_loss: Tensor | None = None
    time_loss: Tensor | None = None
    features: Tensor | None = None

    @property
    def state(self) -> Cache | None:
        return self.past_key_values


class LiquidTextGenerationModel(PreTrainedModel, LiquidGenerationMixin):
    """A causal language model in continuous time; every token is an event with a time.

    With a time head there is one more block, the last, for it alone: it reads what the others make of the
    text, and its gradient stops there. So what comes is learned as without it; when has a state of its own.

    LiquidTextGenerationModel(vocab_size, embedding_dim, latent_dim, hidden_size, **other fields of
    LiquidConfig), or LiquidTextGenerationModel(config).
    """

    config: LiquidConfig  # pyright: ignore[reportIncompatibleVariableOverride]
    config_class = LiquidConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    gradient_checkpointing = False
    _is_stateful = True
    _no_split_modules = ["LiquidBlock"]  # noqa: RUF012 - transformers' declaration
    _tied_weights_keys = {"output_proj.weight": "embedding.embedding.weight"}  # noqa: RUF012

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
        else:
            sizes = {"embedding_dim": embedding_dim, "latent_dim": latent_dim, "hidden_size": hidden_size}
            config = LiquidConfig(vocab_size=vocab_size, **sizes, **options)
        super().__init__(config)
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
        self.blocks = nn.ModuleList(LiquidBlock(config, kind) for kind in cast(list[str], config.mixer_types))
        self.norm = Norm(config.hidden_size, config.norm_eps)
        self.output_proj = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.time_norm = self.time_head = None
        if config.time_components:
            self.blocks.append(LiquidBlock(config, "time"))
            self.time_norm = Norm(config.hidden_size, config.norm_eps)
            resolution = config.time_resolution / config.time_scale
            sizes = (config.hidden_size, config.vocab_size, config.time_components)
            self.time_head = TimeHead(*sizes, resolution)
        with torch.no_grad():
            if config.tie_word_embeddings:  # the table's rows are N(0, 1), logits are to begin as small
                self.output_proj.weight = self.embedding.embedding.weight
                self.norm.weight.fill_(config.embedding_dim**-0.5)
            else:
                self.output_proj.weight.mul_(0.3)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Nothing: every part initialises itself when built, as it must to be usable alone."""

    @classmethod
    def from_pretrained(cls, *args: Any, output_loading_info: bool = False, **kwargs: Any) -> Any:
        """As transformers', but weights that the folder lacks are a LiquidError, not random numbers."""
        model, info = cast(Any, super().from_pretrained(*args, output_loading_info=True, **kwargs))
        for problem in ("missing_keys", "mismatched_keys"):
            if names := info[problem]:
                raise LiquidError(
                    f"the weights are not this model's: {problem} {sorted(map(str, names))[0]}, …"
                )
        return (model, info) if output_loading_info else model

    def get_input_embeddings(self) -> nn.Module:
        return self.embedding.embedding

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.embedding.embedding = cast(nn.Embedding, value)

    def get_output_embeddings(self) -> nn.Module:
        return self.output_proj

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        self.output_proj = new_embeddings

    def resize_token_embeddings(self, *args: Any, **kwargs: Any) -> nn.Embedding:
        """As transformers', the time head's table too."""
        resized = super().resize_token_embeddings(*args, **kwargs)
        if self.time_head is not None:
            self.time_head.resize(self.embedding.vocab_size)
        return cast(nn.Embedding, resized)

    def recompute_activations(self) -> None:
        """Activation checkpointing, by whichever name this transformers has for it."""
        enable = getattr(self, "activation_checkpointing_enable", None) or self.gradient_checkpointing_enable
        enable()

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
        if self.time_head is not None:
            own[-1] = replace(events, gap_weight=None)
        return own

    def features(
        self, hidden: Sequence[Float[Tensor, "*b h"]]
    ) -> tuple[Float[Tensor, "*b h"], Float[Tensor, "*b h"] | None]:
        """What logits are made of and, with a time head, what `next_gap` takes; of `hidden_states`."""
        if self.time_norm is None:
            return self.norm(hidden[-1]), None
        return self.norm(hidden[-2]), self.time_norm(hidden[-1])

    def next_gap(self, features: Float[Tensor, "*b h"], following: Int[Tensor, "*b"]) -> GapDistribution:
        """Of the gap, in units of time_scale, between tokens and what follows them; see `LiquidOutput`.

        Raises:
            LiquidError: the model has no time head.
        """
        if self.time_head is None:
            raise LiquidError("this model says what comes, not when: it was made without time_components")
        return self.time_head(features, following)

    @torch.no_grad()
    def fold(self) -> Float[Tensor, "v h"]:
        """The embedding stage as one table, a row per token id; set it as `state.table` to read faster."""
        return self.embedding.fold(self._t_span(None))

    def _t_span(self, t_span: Tensor | None) -> Tensor:
        if t_span is not None:
            return t_span
        return torch.linspace(0, 1, self.config.ode_steps + 1, device=self.device)

    @can_return_tuple
    def forward(
        self,
        input_ids: Int[Tensor, "b t"],
        attention_mask: Num[Tensor, "b s"] | Bool[Tensor, "b s"] | None = None,
        t_span: Float[Tensor, " n"] | None = None,
        timestamps: Num[Tensor, "b t"] | None = None,
        position_ids: Int[Tensor, "_ t"] | None = None,
        past_key_values: Cache | None = None,
        labels: Int[Tensor, "b t"] | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Int[Tensor, " k"] = 0,
        seq_idx: Int[Tensor, "b t"] | None = None,
        starts: Bool[Tensor, "b t"] | None = None,
        shift_labels: Int[Tensor, "b t"] | None = None,
        shift_timestamps: Num[Tensor, "b t"] | None = None,
        output_hidden_states: bool | None = None,
        num_items_in_batch: Tensor | int | float | None = None,
        flow_ids: Int[Tensor, "..."] | None = None,
        **kwargs: Any,
    ) -> LiquidOutput:
        """One pass over T tokens of each row, on from `past_key_values` if given.

        A long one runs in segments of time through all blocks, the states handed on, gradients too: what is
        worked on stays in cache, and what is not asked for is not kept. With activation checkpointing a
        segment's activations are computed anew in the backward pass, and memory is little more than x.

        Args:
            attention_mask: 0 where padded, on either side; may also cover the tokens already read.
            t_span: times over which the embedding's ODE runs; by default the config's.
            timestamps: times of the tokens, non-decreasing within a document; one time unit apart without.
            position_ids: 0 marks a token that starts a document (packed batches); otherwise not used.
            seq_idx: number of the document each token belongs to; a change within the call starts another.
            starts: true where a document starts. Nothing passes a start.
            past_key_values: a state to go on from; it is brought up to date in place.
            labels: the tokens themselves, −100 where not to count; shifted here. What is padded, and a
                document's first token, does not count.
            shift_labels: the same already shifted: what should follow each token.
            shift_timestamps: when it should; needed beside shift_labels and timestamps for the time head to
                learn. With labels they are the timestamps, shifted here.
            logits_to_keep: only the logits of the last so many positions, or of these positions.
            num_items_in_batch: what the summed loss is divided by; by default the number of labels.
            flow_ids: the ids that the flow's term is taken over, which then counts whole: those of a batch of
                which this call sees a part. By default those of input_ids. Where the output layer is the
                embedding's table, some of the vocabulary beside them.

        Raises:
            LiquidError: ids outside the vocabulary, times that go back or are not finite, shapes that do not
                match.
        """
        per_token = {"timestamps": timestamps, "seq_idx": seq_idx, "starts": starts}
        per_token |= {"labels": labels, "shift_labels": shift_labels, "shift_timestamps": shift_timestamps}
        batch, length = self._check_tokens(input_ids, **per_token)
        mask = None if attention_mask is None else attention_mask[:, -length:]
        if mask is not None and mask.shape != input_ids.shape:
            raise LiquidError(
                f"attention_mask {tuple(mask.shape)} does not cover input_ids {(batch, length)}"
            )
        if use_cache is None:
            use_cache = self.config.use_cache and not self.training
        cache = past_key_values
        if cache is None and use_cache:
            cache = self.new_state()

        table, index, log_det, flow_loss = self._embed(input_ids, mask, t_span, cache, flow_ids)
        order, real = padding_last(mask)
        starts = document_starts(starts, position_ids, seq_idx, input_ids, real)
        if shift_labels is None and labels is not None:
            shift_labels = shifted(labels, real, starts)
            if timestamps is not None:
                shift_timestamps = torch.cat([timestamps[:, 1:], timestamps[:, -1:]], 1)
        gaps = None
        if self.time_head is not None and shift_labels is not None and shift_timestamps is not None:
            if timestamps is None:
                raise LiquidError("shift_timestamps without timestamps: give the time of each token, too")
            gaps = next_gaps(
                timestamps,
                shift_timestamps,
                shift_labels != IGNORED,
                self.config.time_scale,
                dtype=torch.promote_types(self.dtype, torch.float32),
            )
        states = self._states(cache, batch, table)
        events = Events.build(
            timestamps,
            states[0].time,
            length=length,
            time_scale=self.config.time_scale,
            gap_weight=self.config.gap_weight,
            start=starts,
            real=real,
            dtype=states[0].h.dtype,
        )
        if order is not None:
            index, events, input_ids = (
                index.gather(1, order),
                events.reordered(order),
                input_ids.gather(1, order),
            )
            shift_labels = None if shift_labels is None else shift_labels.gather(1, order)
            gaps = None if gaps is None else gaps.gather(1, order)

        all_hidden, first = bool(output_hidden_states), 0  # from which position on hidden states are kept
        if self.training and shift_labels is not None and not all_hidden:
            first = length  # no logits: none
        elif order is None and isinstance(logits_to_keep, int) and logits_to_keep and not all_hidden:
            first = max(0, length - logits_to_keep)
        total, hidden, states = self._run(
            table, index, input_ids, events, states, shift_labels, gaps, first, all_hidden
        )
        if cache is not None:
            for layer, state in zip(cache.layers, states, strict=True):
                cast(LiquidStateLayer, layer).store(state, length)
        if order is not None:
            back = order.argsort(1)[..., None]
            hidden = [(x * cast(Tensor, events.real)[..., None]).gather(1, back.expand_as(x)) for x in hidden]

        loss = logits = time_loss = features = None
        if total is None or not self.training:
            keep = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
            of_logits, features = self.features([x[:, keep] for x in hidden[-2:]])
            logits = self.output_proj(of_logits)
        if total is not None and shift_labels is not None:
            own = (shift_labels != IGNORED).sum()
            count = own if num_items_in_batch is None else num_items_in_batch
            count = count.clamp(min=1e-9) if isinstance(count, Tensor) else max(count, 1e-9)  # none: 0/0 is 0
            loss = total.sum() / count
            time_loss = None if gaps is None else total[1] / count
            if flow_loss is not None:  # once in all micro-batches of a step together
                share = own / count if num_items_in_batch is not None and flow_ids is None else 1.0
                loss = loss + self.config.flow_loss_weight * flow_loss * share
        return LiquidOutput(
            loss=loss,
            logits=logits,
            past_key_values=cache if use_cache else None,
            hidden_states=tuple(hidden) if output_hidden_states else None,
            log_det=log_det,
            flow_loss=flow_loss,
            time_loss=time_loss,
            features=features,
        )

    def _run(
        self,
        table: Float[Tensor, "n h"],
        index: Int[Tensor, "b t"],
        ids: Int[Tensor, "b t"],
        events: Events,
        states: list[CellState],
        targets: Int[Tensor, "b t"] | None,
        gaps: Float[Tensor, "b t"] | None,
        first_kept: int,
        all_hidden: bool,
    ) -> tuple[Tensor | None, list[Tensor], list[CellState]]:
        """Through all blocks, segment by segment: summed losses of what and when, hidden states from
        `first_kept` on, states."""
        if targets is not None:
            self.embedding.check_ids(targets.masked_fill(targets == IGNORED, 0))
        weight, total, kept = plain_weight(self.output_proj), None, []
        least = 1 if self.time_head is None else 2  # hidden states that logits and gaps are made of
        blocks = self._through_blocks
        if self.gradient_checkpointing and self.training:
            # Always torch's newer form: the reentrant one loses gradients of what comes in lists.
            blocks = partial(checkpoint, blocks, use_reentrant=False)
        for part in segments(index.shape[0], index.shape[1], index.device):
            x, now, past = F.embedding(index[:, part], table), events.part(part), states[0].past_ids
            if self.ngrams is not None and past is not None:
                more, past = self.ngrams(ids[:, part], now, past)
                x = x + more
            hidden, states = blocks(x, now, states)
            states[0] = states[0]._replace(past_ids=past)
            if targets is not None:
                features, of_time = self.features(hidden)
                what = linear_cross_entropy(features, weight, targets[:, part], self.config.loss_chunk)
                when = torch.zeros_like(what)
                if gaps is not None and of_time is not None:
                    when = self._when(of_time, targets[:, part], gaps[:, part])
                loss = torch.stack([what, when])
                total = loss if total is None else total + loss
            if part.stop > first_kept:
                wanted = hidden if all_hidden else hidden[-least:]
                kept.append([x[:, max(0, first_kept - part.start) :] for x in wanted])
        return total, [torch.cat(parts, 1) for parts in zip(*kept, strict=True)], states

    def _when(
        self, features: Float[Tensor, "b t h"], targets: Int[Tensor, "b t"], gaps: Float[Tensor, "b t"]
    ) -> Float[Tensor, ""]:
        """−Σ ln p of the gaps before the targets that count."""
        counted = targets != IGNORED
        gap = self.next_gap(features[counted], targets[counted])
        return -gap.log_prob(gaps[counted].to(gap.zero.dtype)).sum()

    def _through_blocks(
        self, x: Float[Tensor, "b t h"], events: Events, states: list[CellState]
    ) -> tuple[list[Tensor], list[CellState]]:
        """The input of every block and the last one's output, and the states after these events."""
        hidden, after = [x], []
        for block, own, state in zip(self.blocks, self.clocks(events), states, strict=True):
            if self.time_head is not None and len(after) == len(self.blocks) - 1:
                x = x.detach()
            x, state = block(x, own, state)
            hidden.append(x)
            after.append(state)
        return hidden, after

    def _check_tokens(self, input_ids: Tensor, **per_token: Tensor | None) -> tuple[int, int]:
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

    def _embed(
        self,
        input_ids: Tensor,
        mask: Tensor | None,
        t_span: Tensor | None,
        cache: Cache | None,
        flow_ids: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """A table of x, each token's row in it, log_det, and in training mode the flow's term of the loss."""
        table = getattr(cache, "table", None)
        if table is not None and t_span is None and not self.training:
            self.embedding.check_ids(input_ids)
            return table, input_ids, None, None
        flow_loss = self.training and self.config.flow_loss_weight > 0
        if flow_loss and self.config.tie_word_embeddings:
            seen = input_ids if mask is None else input_ids[mask != 0]
            flow_ids = and_unmet(seen if flow_ids is None else flow_ids, self.config.vocab_size)
        return self.embedding.distinct(
            input_ids, mask, self._t_span(t_span), flow_loss=flow_loss, flow_ids=flow_ids
        )

    def _states(self, cache: Cache | None, batch: int, x: Tensor) -> list[CellState]:
        """The state each block starts from: the cache's, or a fresh one."""
        layers = [] if cache is None else cast(list[LiquidStateLayer], cache.layers)
        if layers and len(layers) != len(self.blocks):
            raise LiquidError(
                f"the state has {len(layers)} layers, the model {len(self.blocks)}: it is another model's"
            )
        states = [layer.state for layer in layers] or [None] * len(self.blocks)
        fresh = self.initial_states(batch, x.dtype, x.device)
        for i, (given, new) in enumerate(zip(states, fresh, strict=True)):
            if given is None:
                continue
            for name, a, b in zip(CellState._fields, given, new, strict=True):
                if (a is None) != (b is None) or (a is not None and b is not None and a.shape != b.shape):
                    shapes = [None if y is None else tuple(y.shape) for y in (a, b)]
                    raise LiquidError(
                        f"the state's {name} of layer {i} has shape {shapes[0]}, not {shapes[1]}"
                    )
        return [
            b if a is None else a.map(lambda part: part.to(x.device))
            for a, b in zip(states, fresh, strict=True)
        ]


def segments(batch: int, length: int, device: torch.device) -> Iterator[slice]:
    """Slices of 0…length of at most SEGMENT tokens in all rows together; a GPU has room for more."""
    tokens = SEGMENT if device.type == "cpu" else 16 * SEGMENT
    size = max(1, tokens // batch)
    return (slice(first, min(first + size, length)) for first in range(0, length, size))


AutoConfig.register(LiquidConfig.model_type, LiquidConfig)
AutoModelForCausalLM.register(LiquidConfig, LiquidTextGenerationModel)
