"""The liquid language model: tokens ▶ body ▶ output layer ▶ logits of the next token, and its loss.

A forward pass has five stages, each in a file of its own:

    check    `inputs.py`    the arguments
    prepare  `batch.py`     token vectors, gaps, starts of documents, first states
             `targets.py`   the next tokens, and the gaps before them
    run      `segments.py`  all blocks, one segment of time after the other
    loss     `losses.py`    of the next token, and of the gap before it
    output   `output.py`    logits, state, hidden states

Symbols: B batch, T tokens, V vocabulary, H hidden.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor, nn
from transformers import Cache, GenerationConfig
from transformers.utils.generic import can_return_tuple

from ..errors import LiquidError
from ..nn.embedding import TokenVectors
from ..nn.time_head import GapDistribution, TimeHead
from .batch import PreparedBatch, prepare
from .body import LiquidBody
from .config import LiquidConfig
from .folded import FoldedEmbedding
from .kept import Kept
from .losses import Losses
from .output import LiquidOutput, SkippedLogits
from .segments import Found, Hidden, run
from .targets import Labels, with_targets


class LiquidLanguageModel(LiquidBody):
    """Tokens ▶ logits of the next token, in plain PyTorch.

    `LiquidTextGenerationModel` is this and a model of transformers. The command line reads and writes with
    this class, because transformers' models take seconds to import.

        >>> config = LiquidConfig(vocab_size=64, hidden_size=16, num_hidden_layers=2)
        >>> LiquidLanguageModel.of(config).eval()(torch.tensor([[5, 6, 7]])).logits.shape
        torch.Size([1, 3, 64])

    How a pass works, beyond the arguments of `forward`:

    - Segments. A long pass runs in segments of time through all blocks. States and gradients pass from one
      segment to the next. With activation checkpointing, the activations of a segment are computed again in
      the backward pass, and memory is little more than the tokens' vectors.
    - Padding may be on either side. Times must not decrease within a document.
    - Documents. A token starts a document if `starts` says so, if its `seq_idx` differs from the one before,
      or if its position id is 0, or is not the previous token's number plus 1.
    - Labels. Padding, and the first token of a document, do not count. `shift_labels` has the token that
      should follow each one. The time head learns from `shift_timestamps`; with `labels` they are taken from
      the timestamps.
    - Gradient accumulation gives in `num_items_in_batch` the number of labels of all micro-batches of a step.
    - `flow_ids` may have any shape. Give the ids of the whole batch if a call has a part of it. The flow's
      term then has its full weight here, and not this part's share. A tied output layer adds random ids.
    - `table` is a `FoldedEmbedding`, which saves time while the weights stay the same.
    - By default the logits are left out in training mode with labels and more than `loss_chunk` tokens,
      because they would need most of the memory.
    """

    body_class: type[LiquidBody] = LiquidBody
    generation_config: GenerationConfig
    """As in transformers; `suppress_tokens` are never written."""

    @classmethod
    def of(cls, config: LiquidConfig) -> "LiquidLanguageModel":
        """A model with random weights."""
        model = super().of(config)
        model.generation_config = GenerationConfig()
        return model

    def _build(self, config: LiquidConfig) -> None:
        super()._build(config)
        self.output_proj = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.time_head = None
        if config.time_components:
            resolution = config.time_resolution / config.time_scale
            sizes = (config.hidden_size, config.vocab_size, config.time_components)
            self.time_head = TimeHead(*sizes, resolution)
        with torch.no_grad():
            if config.tie_word_embeddings:  # its rows are N(0, 1): the norm makes the first logits small
                self.output_proj.weight = self.embedding.embedding.weight
                self.norm.weight.fill_(config.embedding_dim**-0.5)
            else:
                self.output_proj.weight.mul_(0.3)

    @property
    def model(self) -> LiquidBody:
        """The model without its output layer and time head. It shares its parts with this model."""
        body = self.body_class.__new__(self.body_class)
        nn.Module.__init__(body)
        body.config, body.training = self.config, self.training
        for name in self._parts:
            setattr(body, name, getattr(self, name))
        return body

    def next_gap(self, features: Float[Tensor, "*b h"], following: Int[Tensor, "*b"]) -> GapDistribution:
        """The distribution of the gap, in units of time_scale, between each token and the one after it.

            >>> from liquidlm import LiquidTextGenerationModel
            >>> model = LiquidTextGenerationModel(64, 16, 8, 16, time_components=2).eval()
            >>> output = model(torch.tensor([[5, 6]]), timestamps=torch.tensor([[0.0, 2.0]]))
            >>> model.next_gap(output.features[:, -1], torch.tensor([7])).quantile(0.5).shape
            torch.Size([1])

        Args:
            features: of the tokens, from `LiquidOutput.features`.
            following: the ids of the tokens after them.

        Raises:
            LiquidError: the model has no time head.
        """
        if self.time_head is None:
            raise LiquidError(
                "this model predicts tokens, not times: make it with time_components of at least 1"
            )
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
        """One pass over T tokens of each row: check ▶ prepare ▶ run ▶ loss ▶ output; see the class.

        Args:
            input_ids, attention_mask: (B, T) tokens; 0 where padded, or a mask that covers the past as well.
            t_span: (n,) times over which the embedding's ODE runs; default: `ode_steps` steps from 0 to 1.
            timestamps: (B, T) times of the tokens, in the unit of `time_scale`; default: one unit apart.
            position_ids: (B, T) or (1, T) a document starts at 0, or where the number is not one higher.
            past_key_values: the state to go on from. It is changed in place.
            labels: (B, T) the tokens themselves, −100 where they do not count; shifted here.
            use_cache: return the state; default: as in the config, and never in training mode.
            logits_to_keep: N for the logits of the last N positions, or a tensor of positions; 0 for all.
            seq_idx: (B, T) number of each token's document: a change within the call starts a document.
            starts: (B, T) true where a document starts. Nothing passes a start.
            shift_timestamps: (B, T) time of the token after each one; give it with `shift_labels`.
            output_hidden_states: return the hidden states of all blocks; default: as in the config.
            num_items_in_batch: divides the summed loss; default: the number of labels that count.
            flow_ids: token ids that the flow's training term is computed from; default: `input_ids`.
            table: the folded embedding stage; not used in training mode or beside a t_span.
            skip_logits: leave the logits out; default: in training mode, with many labels.
            kwargs: `shift_labels` (B, T), labels that are already shifted. Others are ignored.

        Raises:
            LiquidError: no ids or wrong ids; times that go back or are not finite; shapes or a state that do
                not match.
        """
        # check
        marks = (position_ids, seq_idx, starts)
        inputs = self.check_inputs(input_ids, attention_mask, timestamps, *marks, kwargs)
        shift_labels = kwargs.pop("shift_labels", None)  # Trainer expects each named label in a batch
        given = Labels.checked(inputs, labels, shift_labels, shift_timestamps, self.config.time_scale)
        # prepare
        learns_flow = self.training and self.config.flow_loss_weight > 0
        vectors = self.embed(inputs, t_span, table, with_flow_loss=learns_flow, flow_ids=flow_ids)
        prepared = prepare(self, inputs, vectors, self.cache_for(past_key_values, use_cache))
        batch = with_targets(self, prepared, inputs.times, given)
        # run, loss, output
        kept = self._kept(batch, logits_to_keep, skip_logits, self.returns_hidden(output_hidden_states))
        with_state = self.returns_state(use_cache)
        return self._run(batch, kept, vectors, num_items_in_batch, flow_ids is not None, with_state)

    def _run(
        self,
        batch: PreparedBatch,
        kept: Kept,
        vectors: TokenVectors,
        items: Tensor | int | float | None,
        whole_batch: bool,
        with_state: bool,
    ) -> LiquidOutput:
        """Run ▶ loss ▶ output; `whole_batch`: the flow's term is of all ids of the batch."""
        # run
        losses = None if batch.targets is None else Losses(self, batch.targets, batch.gaps)
        each = None if losses is None else losses.add
        hidden, found = run(self, batch, first_kept=kept.first, all_hidden=kept.all_hidden, each=each)
        # loss
        loss = time_loss = None
        if losses is not None:
            loss, time_loss = losses.mean(items, vectors.flow_loss, whole_batch)
        # output
        logits, features = self._logits(hidden, found, kept)
        return LiquidOutput(
            loss=loss,
            logits=logits,
            past_key_values=batch.cache if with_state else None,
            hidden_states=self.hidden_states(hidden) if kept.all_hidden else None,
            log_det=vectors.log_det,
            flow_loss=vectors.flow_loss,
            time_loss=time_loss,
            features=features,
        )

    def _kept(
        self, batch: PreparedBatch, logits_to_keep: int | Tensor, skip_logits: bool | None, all_hidden: bool
    ) -> Kept:
        """What the output of the pass has."""
        if skip_logits is None:
            long = batch.ids.numel() > self.config.loss_chunk
            asked = not isinstance(logits_to_keep, int) or logits_to_keep > 0
            skip_logits = self.training and batch.targets is not None and long and not asked
        return Kept.of(batch, None if skip_logits else logits_to_keep, all_hidden)

    def _logits(
        self, hidden: Hidden, found: Found, kept: Kept
    ) -> tuple[Float[Tensor, "b k v"] | SkippedLogits, Float[Tensor, "b k h"] | None]:
        """The logits of the kept positions and, with a time head, what `next_gap` takes there."""
        if kept.logits is None:
            return SkippedLogits(), None
        text, time = self.features([x[:, kept.logits] for x in self.last(hidden)])
        logits = self.output_proj(text)
        if self.counts is not None and found is not None:
            logits = self.counts.log_probs(logits, found[:, kept.logits])
        return logits, time
