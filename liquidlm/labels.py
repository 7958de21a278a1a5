"""Where documents start within a batch, and what should follow each token."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .ops import IGNORED


def document_starts(
    starts: Tensor | None,
    position_ids: Tensor | None,
    seq_idx: Tensor | None,
    input_ids: Tensor,
    real: Tensor | None,
) -> Tensor | None:
    """Where documents start, by any of the ways to say it."""
    marks = [] if starts is None else [starts]
    if position_ids is not None:
        marks.append((position_ids == 0).expand_as(input_ids))
    if seq_idx is not None:
        real = torch.ones_like(seq_idx, dtype=torch.bool) if real is None else real
        columns = real * torch.arange(1, seq_idx.shape[1] + 1, device=seq_idx.device)
        before = F.pad(columns, (1, -1)).cummax(1).values  # the last real token before; 0: none
        marks.append((before > 0) & (seq_idx != seq_idx.gather(1, (before - 1).clamp(min=0))))
    return torch.stack(marks).any(0) if marks else None


def shifted(labels: Tensor, real: Tensor | None, starts: Tensor | None) -> Tensor:
    """What should follow each token: the next label, but nothing beside padding or across documents."""
    following = F.pad(labels[:, 1:], (0, 1), value=IGNORED)
    if starts is not None:
        following = following.masked_fill(F.pad(starts[:, 1:], (0, 1)), IGNORED)
    if real is not None:
        following = following.masked_fill(~(real & F.pad(real[:, 1:], (0, 1))), IGNORED)
    return following
