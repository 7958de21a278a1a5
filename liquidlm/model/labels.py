"""Where documents start within a batch; the label and the time of the token after each."""

import torch
import torch.nn.functional as F
from jaxtyping import Float64
from torch import Tensor

from ..errors import LiquidError
from ..ops import IGNORED


def document_starts(
    starts: Tensor | None,
    position_ids: Tensor | None,
    seq_idx: Tensor | None,
    input_ids: Tensor,
    real: Tensor | None,
) -> Tensor | None:
    """Where documents start; None if nothing marks them.

    Args:
        starts: true where a document starts.
        position_ids: (B, T) or (1, T): a document starts where the number is 0, or is not the previous
            token's number plus 1.
        seq_idx: number of each token's document: a document starts where it changes within the batch.
        input_ids: the tokens.
        real: false where padded; None if no position is padded.

    Raises:
        LiquidError: position_ids of another shape than the tokens.
    """
    marks = [] if starts is None else [starts]
    if position_ids is None and seq_idx is None:
        return starts
    real = torch.ones_like(input_ids, dtype=torch.bool) if real is None else real
    before = _before(real)
    first, before = before < 0, before.clamp(min=0)
    if position_ids is not None:
        if position_ids.shape not in (input_ids.shape, (1, input_ids.shape[1])):
            raise LiquidError(
                f"position_ids must have the shape of the tokens, {tuple(input_ids.shape)},"
                f" not {tuple(position_ids.shape)}"
            )
        number = position_ids.expand_as(input_ids)
        follows = torch.where(first, number != 0, number == number.gather(1, before) + 1)
        marks.append(real & ~follows)
    if seq_idx is not None:
        marks.append(real & ~first & (seq_idx != seq_idx.gather(1, before)))
    return torch.stack(marks).any(0)


def _before(real: Tensor) -> Tensor:
    """The column of the last real token before each; −1 where there is none."""
    columns = real * torch.arange(1, real.shape[1] + 1, device=real.device)
    return F.pad(columns, (1, -1)).cummax(1).values - 1


def next_labels(labels: Tensor, real: Tensor | None, starts: Tensor | None) -> Tensor:
    """The label of the token after each, IGNORED if that is padding or starts a document.

        >>> next_labels(torch.tensor([[4, 5, 6]]), None, None)
        tensor([[   5,    6, -100]])

    Args:
        labels: (B, T) the tokens themselves.
        real: false where padded; None if no position is padded.
        starts: true where a document starts; None if none does.
    """
    following = F.pad(labels[:, 1:], (0, 1), value=IGNORED)
    if starts is not None:
        following = following.masked_fill(F.pad(starts[:, 1:], (0, 1)), IGNORED)
    if real is not None:
        following = following.masked_fill(~(real & F.pad(real[:, 1:], (0, 1))), IGNORED)
    return following


def next_times(timestamps: Float64[Tensor, "b t"]) -> Float64[Tensor, "b t"]:
    """The time of the token after each; the last token of a row has its own time."""
    return torch.cat([timestamps[:, 1:], timestamps[:, -1:]], 1)
