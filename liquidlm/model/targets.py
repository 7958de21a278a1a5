"""Check and prepare the labels: what should follow each token, and after which gap.

Symbols: B batch, T tokens.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float64, Int
from torch import Tensor

from ..errors import LiquidError
from ..nn.timestamps import in_float64, next_gaps
from ..ops import IGNORED
from .batch import PreparedBatch
from .inputs import Inputs, check_shapes
from .labels import next_labels, next_times

if TYPE_CHECKING:
    from .language_model import LiquidLanguageModel


@dataclass(frozen=True)
class Labels:
    """What the caller gives for the loss, checked.

    Attributes:
        labels: the tokens themselves; None if they are not given.
        shifted: the token that should follow each one; None if it is not given.
        shifted_times: its time; None if it is not given.
    """

    labels: Int[Tensor, "b t"] | None
    shifted: Int[Tensor, "b t"] | None
    shifted_times: Float64[Tensor, "b t"] | None

    @classmethod
    def checked(
        cls,
        inputs: Inputs,
        labels: Tensor | None,
        shift_labels: Tensor | None,
        shift_timestamps: Tensor | None,
        time_scale: float,
    ) -> "Labels":
        """The labels of a forward pass over these inputs.

        Raises:
            LiquidError: shapes other than that of the tokens, times that are not numbers.
        """
        times = None if shift_timestamps is None else in_float64(shift_timestamps, time_scale)
        check_shapes(inputs.ids, labels=labels, shift_labels=shift_labels, shift_timestamps=times)
        return cls(labels, shift_labels, times)


def with_targets(
    model: "LiquidLanguageModel",
    batch: PreparedBatch,
    times: Float64[Tensor, "b t"] | None,
    labels: Labels,
) -> PreparedBatch:
    """The batch with its targets and gaps, if there are labels.

    Args:
        times: of the tokens, in the order that the caller gave.

    Raises:
        LiquidError: times of the next tokens without times of the tokens, or gaps below 0.
    """
    targets, later = labels.shifted, labels.shifted_times
    if targets is None and labels.labels is not None:
        targets = next_labels(labels.labels, batch.padding.real, batch.starts)
        later = later if times is None else next_times(times)
    if targets is None:
        return batch
    gaps = None
    if model.time_head is not None and later is not None:
        if times is None:
            raise LiquidError("shift_timestamps without timestamps: give the time of each token too")
        wide = torch.promote_types(model.dtype, torch.float32)
        gaps = next_gaps(times, later, targets != IGNORED, model.config.time_scale, dtype=wide)
        gaps = batch.padding.apply(gaps)
    return replace(batch, targets=batch.padding.apply(targets), gaps=gaps)
