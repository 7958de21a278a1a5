"""Work in slabs of time that fit the processor's cache.

On a CPU the elementwise operations of a layer cost memory traffic, not arithmetic. Over a whole batch each
operation would read and write megabytes outside the cache. A slab stays in the cache for all of them.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

ROWS = 1024
"""Tokens per slab: with 256 float32 numbers per token a tensor has 1 MiB."""


def slab_length(length: int, batch: int, device: torch.device) -> int:
    """Steps per slab, of `batch` tokens each; on a GPU all steps are one slab."""
    return min(length, max(1, ROWS // batch)) if device.type == "cpu" else length


def slabs(length: int, batch: int, device: torch.device, reverse: bool = False) -> Iterator[slice]:
    """Slices of 0…length, in order or from the end."""
    size = slab_length(length, batch, device)
    starts = range(0, length, size)
    for first in reversed(starts) if reverse else starts:
        yield slice(first, min(first + size, length))


class Workspace:
    """`count` tensors (B, slab + extra, H) that all slabs reuse."""

    def __init__(self, like: Tensor, batch: int, length: int, width: int, count: int, extra: int = 0):
        steps = slab_length(length, batch, like.device) + extra
        self.tensors, self.extra = like.new_empty(count, batch, steps, width), extra

    def slab(self, s: slice) -> tuple[Tensor, ...]:
        """The tensors (B, length of the slab + extra, H)."""
        return self.tensors[:, :, : s.stop - s.start + self.extra].unbind(0)
