"""Loss: −ln p of the next token and of the gap before it, in nats."""

from typing import TYPE_CHECKING, TypeGuard

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Int32
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..nn.counts import CountMemory, counted_tokens
from ..ops import IGNORED, linear_cross_entropy, linear_log_probs

if TYPE_CHECKING:
    from .language_model import LiquidLanguageModel
    from .segments import Found, Hidden


class Losses:
    """The losses of a pass, summed over its segments: Σ −ln p(token) and Σ −ln p(gap).

    Args:
        model: its output layer and time head give the probabilities.
        targets: the token that should follow each one, IGNORED where none counts.
        gaps: the gap before each target, in units of time_scale; None: gaps do not count.

    Attributes:
        total: both sums so far.

    Raises:
        LiquidError: a target outside the vocabulary.
    """

    def __init__(
        self,
        model: "LiquidLanguageModel",
        targets: Int[Tensor, "b t"],
        gaps: Float[Tensor, "b t"] | None,
    ):
        model.embedding.check_ids(targets.masked_fill(targets == IGNORED, 0))
        self.model, self.targets, self.gaps = model, targets, gaps
        self.total: Tensor | None = None

    def add(self, part: slice, hidden: "Hidden", found: "Found" = None) -> None:
        """Add the losses of a segment: its positions, its hidden states, what was counted of its contexts."""
        features, of_time = self.model.features(hidden)
        targets = self.targets[:, part]
        layer, chunk = self.model.output_proj, self.model.config.loss_chunk
        if self.model.counts is None or found is None:
            what = output_loss(layer, features, targets, chunk)
        else:
            what = counted_loss(self.model.counts, layer, features, found, targets, chunk)
        when = torch.zeros_like(what)
        if self.gaps is not None and of_time is not None:
            counted = targets != IGNORED
            gap = self.model.next_gap(of_time[counted], targets[counted])
            when = -gap.log_prob(self.gaps[:, part][counted].to(gap.zero.dtype)).sum()
        loss = torch.stack([what, when])
        self.total = loss if self.total is None else self.total + loss

    def mean(
        self, num_items: Tensor | int | float | None, flow_loss: Tensor | None, flow_of_batch: bool
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""] | None]:
        """The loss of the pass, and its part that is of the gaps (None without gaps).

        Args:
            num_items: the sums are divided by this number; None: by the number of targets that count.
            flow_loss: the flow's training term, which is added; None if there is none.
            flow_of_batch: whether this term is that of all micro-batches of a step. If not, and with
                num_items, it is weighted by this pass's part of the items.
        """
        assert self.total is not None  # a pass has at least one segment
        own = (self.targets != IGNORED).sum()
        count = own if num_items is None else num_items
        count = count.clamp(min=1e-9) if isinstance(count, Tensor) else max(count, 1e-9)  # none: 0/0 is 0
        loss = self.total.sum() / count
        if flow_loss is not None:
            part = 1.0 if num_items is None or flow_of_batch else own / count
            loss = loss + self.model.config.flow_loss_weight * part * flow_loss
        return loss, None if self.gaps is None else self.total[1] / count


def output_loss(
    layer: nn.Module, hidden: Float[Tensor, "*b h"], targets: Int[Tensor, "*b"], chunk: int
) -> Float[Tensor, ""]:
    """Σ cross-entropy of the logits that an output layer makes of hidden states.

    The logits of only `chunk` tokens exist at a time. A layer that is more than its matrix (adapted,
    quantised, offloaded) computes its own logits, and computes them again in the backward pass.

    Args:
        layer: H ▶ V.
        hidden: its input.
        targets: the right token of each position, IGNORED where none counts.
        chunk: number of tokens.
    """
    if is_matrix(layer):
        return linear_cross_entropy(hidden, layer.weight, targets, chunk)
    asked = targets != IGNORED
    pairs = zip(hidden[asked].split(chunk), targets[asked].split(chunk), strict=True)
    parts = [checkpoint(_cross_entropy, layer, *pair, use_reentrant=False) for pair in pairs]
    return torch.stack(parts).sum()  # pyright: ignore[reportArgumentType]


def counted_loss(
    counts: CountMemory,
    layer: nn.Module,
    hidden: Float[Tensor, "b t h"],
    found: Int32[Tensor, "b t k 16"],
    targets: Int[Tensor, "b t"],
    chunk: int,
) -> Float[Tensor, ""]:
    """Σ −ln p_K of the targets, where p_K mixes counts with the network's p_0 (see `CountMemory`).

    Its gradient is that of Σ −ln p_K for the net that weighs the counts, and that of Σ −ln p_0 for the
    network: the network learns as it does alone. (With one gradient for both it learned less;
    docs/experiments.md.)

    Args:
        counts: the exact memory.
        layer, hidden, targets, chunk: see `output_loss`.
        found: as `counts.read` returned it.
    """
    asked = targets != IGNORED
    hidden, found, targets = hidden[asked], found[asked], targets[asked]
    ids = torch.cat([targets[:, None], counted_tokens(found).flatten(1)], 1)
    if is_matrix(layer):
        alone, log_p = linear_log_probs(hidden, layer.weight, targets, ids, chunk)
    else:
        alone = output_loss(layer, hidden, targets, chunk)
        with torch.no_grad():
            log_p = _log_probs(layer, hidden, ids, chunk)
    mixed = counts.nats(log_p[:, 0], log_p[:, 1:].view(found.shape), found, targets).sum()
    return mixed + (alone - alone.detach())  # the value of `mixed`, the gradients of both


def _log_probs(layer: nn.Module, hidden: Tensor, ids: Tensor, chunk: int) -> Tensor:
    """ln p_0 of ids."""
    parts = [
        _wide(layer(part)).log_softmax(-1).gather(1, wanted)
        for part, wanted in zip(hidden.split(chunk), ids.split(chunk), strict=True)
    ]
    return torch.cat(parts)


def is_matrix(layer: nn.Module) -> TypeGuard[nn.Linear]:
    """Whether a layer is a plain matrix: no bias, no adapter, no hook."""
    plain = type(layer) is nn.Linear and layer.bias is None and type(layer.weight) is nn.Parameter
    return plain and not layer._forward_hooks and not hasattr(layer, "_hf_hook")


def _cross_entropy(layer: nn.Module, hidden: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(_wide(layer(hidden)), targets, reduction="sum")


def _wide(logits: Tensor) -> Tensor:
    """In at least float32."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
