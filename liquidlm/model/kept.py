"""Which logits and hidden states a forward pass keeps."""

from dataclasses import dataclass

from jaxtyping import Int
from torch import Tensor

from .batch import PreparedBatch


@dataclass(frozen=True)
class Kept:
    """What the output of a forward pass has.

    Attributes:
        first: hidden states are kept from this position on.
        logits: the positions of the logits among those of the kept hidden states; None: no logits.
        all_hidden: whether the hidden states of all blocks are kept, or only the last.
    """

    first: int
    logits: slice | Int[Tensor, " k"] | None
    all_hidden: bool

    @classmethod
    def of(cls, batch: PreparedBatch, logits_to_keep: int | Tensor | None, all_hidden: bool) -> "Kept":
        """What to keep of a batch.

        Args:
            logits_to_keep: N for the last N positions, 0 for all, or the positions; None: no logits.
            all_hidden: keep the hidden states of all blocks, at all positions.
        """
        if logits_to_keep is None:
            return cls(0 if all_hidden else batch.length, None, all_hidden)
        if not isinstance(logits_to_keep, int):
            return cls(0, logits_to_keep, all_hidden)
        first = 0
        if logits_to_keep and not all_hidden and batch.padding.order is None:
            first = max(0, batch.length - logits_to_keep)
        return cls(first, slice(-logits_to_keep, None), all_hidden)
