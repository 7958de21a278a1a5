"""What a pass costs in nats: what follows each token, and when."""

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .block import plain_weight
from .ops import IGNORED, linear_cross_entropy

if TYPE_CHECKING:
    from .body import Hidden
    from .model import LiquidTextGenerationModel


class Losses:
    """Sums, over the segments of a pass, of −ln p of what follows each token and of the gap before it.

    Attributes:
        total: both sums.
    """

    def __init__(
        self,
        model: "LiquidTextGenerationModel",
        targets: Int[Tensor, "b t"],
        gaps: Float[Tensor, "b t"] | None,
    ):
        model.embedding.check_ids(targets.masked_fill(targets == IGNORED, 0))
        self.model, self.targets, self.gaps = model, targets, gaps
        self.weight = plain_weight(model.output_proj)
        self.total: Tensor | None = None

    def add(self, part: slice, hidden: "Hidden") -> None:
        """Those of a segment."""
        features, of_time = self.model.features(hidden)
        targets = self.targets[:, part]
        what = linear_cross_entropy(features, self.weight, targets, self.model.config.loss_chunk)
        when = torch.zeros_like(what)
        if self.gaps is not None and of_time is not None:
            counted = targets != IGNORED
            gap = self.model.next_gap(of_time[counted], targets[counted])
            when = -gap.log_prob(self.gaps[:, part][counted].to(gap.zero.dtype)).sum()
        loss = torch.stack([what, when])
        self.total = loss if self.total is None else self.total + loss

    def mean(
        self, num_items: Tensor | int | float | None
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""] | None, Float[Tensor, ""]]:
        """Of both together and of when alone, over `num_items` or the targets that count; and the share of
        these in num_items."""
        assert self.total is not None  # a pass has at least one segment
        own = (self.targets != IGNORED).sum()
        count = own if num_items is None else num_items
        count = count.clamp(min=1e-9) if isinstance(count, Tensor) else max(count, 1e-9)  # none: 0/0 is 0
        return self.total.sum() / count, None if self.gaps is None else self.total[1] / count, own / count
