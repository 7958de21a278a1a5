"""The liquid language model: its body ▶ output projection (and time head).

Symbols: B batch, T tokens, V vocabulary, H hidden.
"""

from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor, nn
from transformers import Cache
from transformers.utils.generic import can_return_tuple

from ..errors import LiquidError
from ..nn.time_head import GapDistribution, TimeHead
from ..nn.timestamps import in_float64, next_gaps
from ..ops import IGNORED
from .body import LiquidModel, Reading, check_tokens, only_ids
from .config import LiquidConfig
from .folded import FoldedEmbedding
from .generation import LiquidGenerationMixin
from .labels import next_labels, next_times
from .losses import Losses
from .output import LiquidOutput, SkippedLogits


class LiquidTextGenerationModel(LiquidModel, LiquidGenerationMixin):
    """A causal language model in continuous time; every token is an event with a time.

    LiquidTextGenerationModel(vocab_size, embedding_dim, latent_dim, hidden_size, **other fields of
    LiquidConfig), or LiquidTextGenerationModel(config).
    """

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
                raise LiquidError(
                    f"{names} beside a config: what it has is set there, and it has nothing else"
                )
        else:
            sizes = {"embedding_dim": embedding_dim, "latent_dim": latent_dim, "hidden_size": hidden_size}
            config = LiquidConfig(vocab_size=vocab_size, **sizes, **options)
        super().__init__(config)

    def _build(self, config: LiquidConfig) -> None:
        super()._build(config)
        self.loss_type = "ForCausalLM"  # Trainer counts labels as those of a model that shifts them
        self.output_proj = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.time_head = None
        if config.time_components:
            resolution = config.time_resolution / config.time_scale
            sizes = (config.hidden_size, config.vocab_size, config.time_components)
            self.time_head = TimeHead(*sizes, resolution)
        with torch.no_grad():
            if config.tie_word_embeddings:  # the table's rows are N(0, 1), logits are to begin as small
                self.output_proj.weight = self.embedding.embedding.weight
                self.norm.weight.fill_(config.embedding_dim**-0.5)
            else:
                self.output_proj.weight.mul_(0.3)

    @property
    def model(self) -> LiquidModel:
        """The body alone, as transformers asks for it (`base_model`): all but the output layer and the time
        head. Its parts are this model's own, and as they are now."""
        body = LiquidModel.__new__(LiquidModel)
        nn.Module.__init__(body)
        body.config, body.training = self.config, self.training
        body.gradient_checkpointing = self.gradient_checkpointing
        for name in self._parts:
            setattr(body, name, getattr(self, name))
        return body

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

    def next_gap(self, features: Float[Tensor, "*b h"], following: Int[Tensor, "*b"]) -> GapDistribution:
        """Of the gap, in units of time_scale, between tokens and what follows them; see `LiquidOutput`.

        Raises:
            LiquidError: the model has no time head.
        """
        if self.time_head is None:
            raise LiquidError("this model says what comes, not when: it was made without time_components")
        return self.time_head(features, following)

    @can_return_tuple
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        input_ids: Int[Tensor, "b t"] | None = None,
        attention_mask: Num[Tensor, "b s"] | Bool[Tensor, "b s"] | None = None,
        t_span: Float[Tensor, " n"] | None = None,
        timestamps: Num[Tensor, "b t"] | None = None,
        position_ids: Int[Tensor, "..."] | None = None,
        past_key_values: Cache | None = None,
        labels: Int[Tensor, "b t"] | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Int[Tensor, " k"] = 0,
        seq_idx: Int[Tensor, "b t"] | None = None,
        starts: Bool[Tensor, "b t"] | None = None,
        shift_timestamps: Num[Tensor, "b t"] | None = None,
        output_hidden_states: bool | None = None,
        num_items_in_batch: Tensor | int | float | None = None,
        flow_ids: Int[Tensor, "..."] | None = None,
        table: FoldedEmbedding | None = None,
        skip_logits: bool | None = None,
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
            position_ids: a token starts a document (packed batches) where its number does not follow that of
                the token before, or is 0; otherwise not used.
            seq_idx: number of the document each token belongs to; a change within the call starts another.
            starts: true where a document starts. Nothing passes a start.
            past_key_values: a state to go on from; it is brought up to date in place.
            labels: the tokens themselves, −100 where not to count; shifted here. What is padded, and a
                document's first token, does not count.
            shift_labels: the same already shifted: what should follow each token.
            shift_timestamps: when it should; needed beside shift_labels and timestamps for the time head to
                learn. With labels they are the timestamps, shifted here.
            logits_to_keep: only the logits of the last so many positions, or of these positions.
            skip_logits: whether to leave the logits out. By default they are, in training mode with labels,
                where there are more than `loss_chunk` tokens: they would be the most that is in memory.
            num_items_in_batch: what the summed loss is divided by; by default the number of labels.
            flow_ids: the ids that the flow's term is taken over, which then counts whole: those of a batch of
                which this call sees a part. By default those of input_ids. Where the output layer is the
                embedding's table, some of the vocabulary beside them.
            table: the embedding stage folded by the caller; not used in training mode, or beside a t_span.

        Raises:
            LiquidError: no ids, or embeddings in their place; ids outside the vocabulary, times that go back
                or are not finite, shapes that do not match.
        """
        input_ids = only_ids(input_ids, kwargs)
        targets = kwargs.pop("shift_labels", None)  # no argument of its own: Trainer would wait for it
        timestamps, shift_timestamps = (
            None if times is None else in_float64(times, self.config.time_scale)
            for times in (timestamps, shift_timestamps)
        )
        check_tokens(input_ids, labels=labels, shift_labels=targets, shift_timestamps=shift_timestamps)
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
            flow_loss=self.training and self.config.flow_loss_weight > 0,
            flow_ids=flow_ids,
        )
        if targets is None and labels is not None:
            targets = next_labels(labels, reading.padding.real, reading.starts)
            if timestamps is not None:
                shift_timestamps = next_times(timestamps)
        losses = None
        if targets is not None:
            gaps = self._gaps(timestamps, targets, shift_timestamps)
            losses = Losses(
                self, reading.padding.apply(targets), None if gaps is None else reading.padding.apply(gaps)
            )
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        every = bool(output_hidden_states)
        if skip_logits is None:
            asked = not isinstance(logits_to_keep, int) or logits_to_keep > 0
            skip_logits = (
                self.training
                and losses is not None
                and not asked
                and input_ids.numel() > self.config.loss_chunk
            )
        first = self._first_kept(reading, skip_logits, logits_to_keep, every)
        hidden = self.read(reading, first, every, None if losses is None else losses.add)

        loss = time_loss = features = None
        if skip_logits:
            logits = SkippedLogits()
        else:
            keep = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
            of_logits, features = self.features([x[:, keep] for x in hidden[-2:]])
            logits = self.output_proj(of_logits)
        if losses is not None:
            loss, time_loss, share = losses.mean(num_items_in_batch)
            if reading.vectors.flow_loss is not None:  # once in all micro-batches of a step together
                whole = num_items_in_batch is None or flow_ids is not None
                weight = self.config.flow_loss_weight * (1.0 if whole else share)
                loss = loss + weight * reading.vectors.flow_loss
        return LiquidOutput(
            loss=loss,
            logits=logits,
            past_key_values=reading.cache if self._keeps_state(use_cache) else None,
            hidden_states=self.hidden_states(hidden) if every else None,
            log_det=reading.vectors.log_det,
            flow_loss=reading.vectors.flow_loss,
            time_loss=time_loss,
            features=features,
        )

    def _gaps(
        self, timestamps: Tensor | None, targets: Tensor, shift_timestamps: Tensor | None
    ) -> Float[Tensor, "b t"] | None:
        """The gap before what should follow each token, if the model is to learn them."""
        if self.time_head is None or shift_timestamps is None:
            return None
        if timestamps is None:
            raise LiquidError("shift_timestamps without timestamps: give the time of each token, too")
        wide = torch.promote_types(self.dtype, torch.float32)
        counted = targets != IGNORED
        return next_gaps(timestamps, shift_timestamps, counted, self.config.time_scale, dtype=wide)

    def _first_kept(
        self, reading: Reading, skip_logits: bool, logits_to_keep: int | Tensor, all_hidden: bool
    ) -> int:
        """From which position on hidden states are needed after the pass."""
        length = reading.ids.shape[1]
        if all_hidden:
            return 0
        if skip_logits:
            return length
        if reading.padding.order is None and isinstance(logits_to_keep, int) and logits_to_keep:
            return max(0, length - logits_to_keep)
        return 0
