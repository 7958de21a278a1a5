"""One call per operation; this file alone picks the form that computes it.

`reference` defines truth; the other files have the fast forms, of the same signatures, for any device. The
truth of `linear_cross_entropy` is torch's own F.cross_entropy.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..runtime.precision import product_dtype
from .conv import short_conv_shifted
from .loss import IGNORED, linear_cross_entropy
from .memory import delta_memory_chunked, delta_memory_weights
from .reference import (
    delta_memory_reference,
    liquid_relax_reference,
    liquid_scan_reference,
    short_conv_reference,
)
from .relax import liquid_relax_fused
from .scan import liquid_scan_chunked

__all__ = [
    "IGNORED",
    "delta_memory",
    "delta_memory_chunked",
    "delta_memory_reference",
    "delta_memory_weights",
    "linear_cross_entropy",
    "liquid_relax",
    "liquid_relax_fused",
    "liquid_relax_reference",
    "liquid_scan",
    "liquid_scan_chunked",
    "liquid_scan_reference",
    "short_conv",
    "short_conv_reference",
    "short_conv_shifted",
]

FEW = 4
"""Up to this many events the plain loop is faster than setting up chunks."""


def _plain(length: int) -> bool:
    """Whether to loop step by step: an exported graph must have nothing that is worked on in place."""
    return length <= FEW or torch.compiler.is_exporting()


def delta_memory(
    q: Float[Tensor, "b t n k"],
    k: Float[Tensor, "b t n k"],
    v: Float[Tensor, "b t n p"],
    log_decay: Float[Tensor, "b t n"],
    write: Float[Tensor, "b t n"],
    state: Float[Tensor, "b n k p"],
    chunk_size: int = 64,
) -> tuple[Float[Tensor, "b t n p"], Float[Tensor, "b n k p"]]:
    """The matrix memory read through time: every read and the last state; see `delta_memory_reference`.

    In the precision of the state whatever autocast says: what it sums up over a long time would be lost in
    bfloat16.
    """
    with torch.autocast(q.device.type, enabled=False):
        if _plain(q.shape[1]):
            return delta_memory_reference(q, k, v, log_decay, write, state)
        return delta_memory_chunked(q, k, v, log_decay, write, state, chunk_size)


def liquid_scan(
    decay: Float[Tensor, "b t h"], drive: Float[Tensor, "b t h"], h0: Float[Tensor, "b h"]
) -> Float[Tensor, "b t h"]:
    """h_i = decay_i ⊙ h_{i−1} + drive_i for every i; the last h is the state to go on from."""
    if _plain(decay.shape[1]):
        return liquid_scan_reference(decay, drive, h0)
    return liquid_scan_chunked(decay, drive, h0)


def liquid_relax(
    synapse: Float[Tensor, "b t two_h"],
    leak: Float[Tensor, " h"],
    duration: Float[Tensor, "b t"],
    pace: Float[Tensor, " h"],
    h0: Float[Tensor, "b h"],
    start: Bool[Tensor, "b t"] | None = None,
) -> Float[Tensor, "b t h"]:
    """The liquid neuron over a sequence, from its synapse's output; see `liquid_relax_reference`."""
    if _plain(synapse.shape[1]):
        return liquid_relax_reference(synapse, leak, duration, pace, h0, start)
    return liquid_relax_fused(synapse, leak, duration, pace, h0, start)


def short_conv(
    x: Float[Tensor, "b t h"],
    weight: Float[Tensor, "h w"],
    tail: Float[Tensor, "b w_minus_1 h"],
    segment: Float[Tensor, "b t"] | None,
    drive: Float[Tensor, "b t"],
    scale: Float[Tensor, " h"],
) -> Float[Tensor, "b t h"]:
    """Causal depthwise convolution over the events of each document; see `short_conv_reference`."""
    # How many events stand beside a start is data, which a graph is not to depend on.
    if torch.compiler.is_exporting() or (torch.compiler.is_compiling() and segment is not None):
        return short_conv_reference(x, weight, tail, segment, drive, scale).to(product_dtype(x))
    return short_conv_shifted(x, weight, tail, segment, drive, scale)
