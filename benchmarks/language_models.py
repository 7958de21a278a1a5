"""What the benchmarks call a language model: ours, a peer, and a peer with our exact memory beside it."""

from abc import ABC, abstractmethod
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from liquidlm import LiquidTextGenerationModel
from liquidlm.model.losses import counted_loss
from liquidlm.nn.counts import CountMemory
from liquidlm.ops import IGNORED
from liquidlm.text.token_corpus import TokenCorpus

PIECE = 1024
"""Tokens whose logits exist at a time, beside counts."""


class LanguageModel(nn.Module, ABC):
    """A model of the next token.

    Attributes:
        carries: whether it goes on from the state of the tokens before; else a call knows only its own.
    """

    carries = False

    @abstractmethod
    def forward(
        self, ids: Int[Tensor, "b t"], targets: Int[Tensor, "b t"], state: Any = None
    ) -> tuple[Float[Tensor, ""], Any]:
        """Mean nats of the targets that are not −100, and the state after these tokens."""

    @abstractmethod
    def logits(self, ids: Int[Tensor, "b t"], state: Any = None) -> tuple[Float[Tensor, "b t v"], Any]:
        """What follows each token, and the state after these tokens."""

    def loss(self, ids: Int[Tensor, "b t"]) -> Float[Tensor, ""]:
        """Cross-entropy of every token after the first, mean nats per token."""
        return self(ids, F.pad(ids[:, 1:], (0, 1), value=IGNORED))[0]


class Ours(LanguageModel):
    """In training mode our model adds its flow's term to the loss, as `liquidlm train` does."""

    carries = True

    def __init__(self, model: LiquidTextGenerationModel):
        super().__init__()
        self.model = model

    def count(self, corpus: TokenCorpus) -> None:
        """Count the training text, if the model has a table for it."""
        if (counts := self.model.counts) is not None and counts.training_counts is not None:
            counts.count_training_text(torch.from_numpy(corpus.tokens[:]), torch.from_numpy(corpus.starts))

    def forward(self, ids, targets, state=None):
        output = self.model(
            ids, shift_labels=targets, past_key_values=state, use_cache=True, logits_to_keep=1
        )
        return output.loss, output.past_key_values.detach_()

    def logits(self, ids, state=None):
        output = self.model(ids, past_key_values=state, use_cache=True)
        return output.logits, output.past_key_values


class Peer(LanguageModel):
    """A model in two parts: what it makes of the tokens, and an output layer, applied where it is asked."""

    output: nn.Module

    @abstractmethod
    def hidden(self, ids: Int[Tensor, "b t"], state: Any) -> tuple[Float[Tensor, "b t h"], Any]:
        """What the output layer is given, and the state after these tokens."""

    def forward(self, ids, targets, state=None):
        hidden, state = self.hidden(ids, state)
        asked = targets != IGNORED
        if not asked.all():
            hidden, targets = hidden[asked], targets[asked]
        logits = self.output(hidden).flatten(0, -2).float()
        return F.cross_entropy(logits, targets.flatten()), state

    def logits(self, ids, state=None):
        hidden, state = self.hidden(ids, state)
        return self.output(hidden), state


class Counted(LanguageModel):
    """A peer that carries its state, and a `CountMemory` that mixes counts into its distribution.

    Args:
        peer: gives p_0.
        counts: as in our model. Its table of the training text must be filled by `count`.
    """

    carries = True

    def __init__(self, peer: Peer, counts: CountMemory):
        super().__init__()
        assert peer.carries
        self.peer, self.counts = peer, counts

    def count(self, corpus: TokenCorpus) -> None:
        """Count the training text."""
        self.counts.count_training_text(torch.from_numpy(corpus.tokens[:]), torch.from_numpy(corpus.starts))

    def forward(self, ids, targets, state=None):
        hidden, found, state = self._read(ids, state)
        loss = counted_loss(self.counts, self.peer.output, hidden, found, targets, PIECE)
        return loss / (targets != IGNORED).sum(), state

    def logits(self, ids, state=None):
        hidden, found, state = self._read(ids, state)
        return self.counts.log_probs(self.peer.output(hidden), found), state

    def _read(self, ids: Int[Tensor, "b t"], state):
        inner, table, context = state or (None, *self.counts.empty(len(ids)))
        start: Bool[Tensor, "b t"] = torch.zeros_like(ids, dtype=torch.bool)
        start[:, 0] = state is None
        hidden: Float[Tensor, "b t h"]
        hidden, inner = self.peer.hidden(ids, inner)
        found, context, table = self.counts.read(ids, start, None, table, context)
        return hidden, found, (inner, table, context)
