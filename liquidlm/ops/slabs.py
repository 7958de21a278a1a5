"""Working in slabs that stay in the processor's cache.

On a CPU the elementwise operations of a layer cost passes over memory, not arithmetic: over a whole batch
each of them would fetch and write megabytes, in memory that was just allocated and is in no cache.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

ROWS = 1024
"""Tokens per slab: at width 256 a float32 tensor of it is 1 MiB."""


def slab_length(length: int, batch: int, device: torch.device) -> int:
    """Steps of a slab, `batch` tokens each; a GPU takes the whole at once."""
    return min(length, max(1, ROWS // batch)) if device.type == "cpu" else length


def slabs(length: int, batch: int, device: torch.device, reverse: bool = False) -> Iterator[slice]:
    """Slices of 0…length, in order or from the end."""
    size = slab_length(length, batch, device)
    starts = range(0, length, size)
    for first in reversed(starts) if reverse else starts:
        yield slice(first, min(first + size, length))


class Workspace:
    """`count` tensors (B, slab + extra, H) that every slab uses again."""

    def __init__(self, like: Tensor, batch: int, length: int, width: int, count: int, extra: int = 0):
        steps = slab_length(length, batch, like.device) + extra
        self.tensors, self.extra = like.new_empty(count, batch, steps, width), extra

    def slab(self, s: slice) -> tuple[Tensor, ...]:
        """The tensors as large as the slab is, and `extra`."""
        return self.tensors[:, :, : s.stop - s.start + self.extra].unbind(0)
