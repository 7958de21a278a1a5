"""The liquid language model: its body ▶ output projection (and time head).

Symbols: B batch, T tokens, V vocabulary, H hidden.
"""

from dataclasses import replace
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
from .batch import PreparedBatch, prepare
from .body import LiquidModel
from .config import LiquidConfig
from .folded import FoldedEmbedding
from .generation import LiquidGenerationMixin
from .inputs import check_shapes
from .kept import Kept
from .labels import next_labels, next_times
from .losses import Losses
from .output import LiquidOutput, SkippedLogits
from .segments import Hidden, run


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
        inputs = self.check_inputs(
            input_ids, attention_mask, timestamps, position_ids, seq_idx, starts, kwargs
        )
        targets = kwargs.pop("shift_labels", None)  # no argument of its own: Trainer would wait for it
        if shift_timestamps is not None:
            shift_timestamps = in_float64(shift_timestamps, self.config.time_scale)
        check_shapes(inputs.ids, labels=labels, shift_labels=targets, shift_timestamps=shift_timestamps)

        with_flow_loss = self.training and self.config.flow_loss_weight > 0
        vectors = self.embed(inputs, t_span, table, with_flow_loss=with_flow_loss, flow_ids=flow_ids)
        batch = prepare(self, inputs, vectors, self.cache_for(past_key_values, use_cache))
        batch = self._with_targets(batch, inputs.times, labels, targets, shift_timestamps)

        kept = self._kept(batch, logits_to_keep, skip_logits, self.returns_hidden(output_hidden_states))
        losses = None if batch.targets is None else Losses(self, batch.targets, batch.gaps)
        each = None if losses is None else losses.add
        hidden = run(self, batch, first_kept=kept.first, all_hidden=kept.all_hidden, each=each)

        loss = time_loss = None
        if losses is not None:
            loss, time_loss = losses.mean(num_items_in_batch, vectors.flow_loss, flow_ids is not None)
        logits, features = self._logits(hidden, kept)
        return LiquidOutput(
            loss=loss,
            logits=logits,
            past_key_values=batch.cache if self.returns_state(use_cache) else None,
            hidden_states=self.hidden_states(hidden) if kept.all_hidden else None,
            log_det=vectors.log_det,
            flow_loss=vectors.flow_loss,
            time_loss=time_loss,
            features=features,
        )

    def _with_targets(
        self,
        batch: PreparedBatch,
        times: Tensor | None,
        labels: Tensor | None,
        shift_labels: Tensor | None,
        shift_timestamps: Tensor | None,
    ) -> PreparedBatch:
        """The batch with what should follow each token and after which gap, if there are labels."""
        if shift_labels is None and labels is not None:
            shift_labels = next_labels(labels, batch.padding.real, batch.starts)
            shift_timestamps = shift_timestamps if times is None else next_times(times)
        if shift_labels is None:
            return batch
        gaps, move = self._gaps(times, shift_labels, shift_timestamps), batch.padding.apply
        return replace(batch, targets=move(shift_labels), gaps=None if gaps is None else move(gaps))

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

    def _kept(
        self, batch: PreparedBatch, logits_to_keep: int | Tensor, skip_logits: bool | None, all_hidden: bool
    ) -> Kept:
        """What of the pass the output has."""
        if skip_logits is None:
            long = batch.ids.numel() > self.config.loss_chunk
            asked = not isinstance(logits_to_keep, int) or logits_to_keep > 0
            skip_logits = self.training and batch.targets is not None and long and not asked
        return Kept.of(batch, None if skip_logits else logits_to_keep, all_hidden)

    def _logits(
        self, hidden: Hidden, kept: Kept
    ) -> tuple[Float[Tensor, "b k v"] | SkippedLogits, Float[Tensor, "b k h"] | None]:
        """The logits of the kept positions and, with a time head, what `next_gap` takes there."""
        if kept.logits is None:
            return SkippedLogits(), None
        text, time = self.features([x[:, kept.logits] for x in self.last(hidden)])
        return self.output_proj(text), time
