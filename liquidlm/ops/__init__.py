"""The operations over time. Each function here chooses the form that computes it.

`reference.py` defines each operation as a loop over events. The other files hold fast forms with the same
signatures, for every device; `native/` has compiled forms for processors, which are used where they are
built. `linear_cross_entropy` equals torch's F.cross_entropy.

- `count_contexts`: the exact memory, what followed the last n tokens (`counts.py`, `native/counts.py`);
  `count_text`: counts of a whole text.
- `delta_memory`: the matrix memory (`reference.py`, `memory.py`, `native/memory.py`).
- `layer_norm`: the normalisation of a layer; `add_layer_norm`: of a sum; `gated_layer_norm`: with a gate.
- `liquid_relax`: the liquid time cell; here a gap becomes a decay in fused form (`relax.py`).
- `liquid_scan`: the diagonal recurrence (`scan.py`).
- `nonlinear_relax`: the liquid time cell whose rates depend on its own state (`newton.py`: in parallel over
  time).
- `queries_keys_values`: what the matrix memory writes and reads with.
- `short_conv`: the short convolution (`conv.py`).
- `swiglu`: the product of a gated MLP.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Int32
from torch import Tensor

from ..runtime.precision import product_dtype
from .conv import short_conv_shifted
from .counts import Counted, count_contexts_reference, count_text_reference
from .loss import IGNORED, linear_cross_entropy, linear_log_probs
from .memory import delta_memory_chunked, delta_memory_weights
from .native import (
    TYPES,
    add_layer_norm_native,
    count_contexts_native,
    count_text_native,
    delta_memory_native,
    gated_layer_norm_native,
    kernels,
    layer_norm_native,
    liquid_relax_native,
    nonlinear_relax_native,
    queries_keys_values_native,
    short_conv_native,
    swiglu_native,
    takes,
)
from .newton import nonlinear_relax_newton
from .reference import (
    delta_memory_reference,
    layer_norm_reference,
    liquid_relax_reference,
    liquid_scan_reference,
    nonlinear_relax_reference,
    queries_keys_values_reference,
    short_conv_reference,
    swiglu_reference,
)
from .relax import liquid_relax_fused
from .scan import liquid_scan_chunked

__all__ = [
    "IGNORED",
    "Counted",
    "add_layer_norm",
    "add_layer_norm_native",
    "count_contexts",
    "count_contexts_native",
    "count_contexts_reference",
    "count_text",
    "count_text_native",
    "count_text_reference",
    "delta_memory",
    "delta_memory_chunked",
    "delta_memory_native",
    "delta_memory_reference",
    "delta_memory_weights",
    "gated_layer_norm",
    "gated_layer_norm_native",
    "layer_norm",
    "layer_norm_native",
    "layer_norm_reference",
    "linear_cross_entropy",
    "linear_log_probs",
    "liquid_relax",
    "liquid_relax_fused",
    "liquid_relax_native",
    "liquid_relax_reference",
    "liquid_scan",
    "liquid_scan_chunked",
    "liquid_scan_reference",
    "nonlinear_relax",
    "nonlinear_relax_native",
    "nonlinear_relax_newton",
    "nonlinear_relax_reference",
    "queries_keys_values",
    "queries_keys_values_native",
    "queries_keys_values_reference",
    "short_conv",
    "short_conv_native",
    "short_conv_reference",
    "short_conv_shifted",
    "swiglu",
    "swiglu_native",
    "swiglu_reference",
]

FEW = 4
"""Up to this many events the loop of `reference.py` is faster than chunks."""


def _plain(length: int) -> bool:
    """Whether to use the loop: for few events, and for torch.export, which allows no in-place work."""
    return length <= FEW or torch.compiler.is_exporting()


def count_contexts(
    ids: Int[Tensor, "b t"],
    start: Bool[Tensor, "b t"],
    real: Int[Tensor, " b"],
    context: Int[Tensor, "b n"],
    table: Int32[Tensor, "b l 16"] | None,
    training: Int32[Tensor, "p 16"] | None,
    orders: Sequence[int],
) -> Counted:
    """What followed the last n tokens, as `count_contexts_reference` defines it. A CPU computes it."""
    device = ids.device
    table, training = (None if one is None else one.cpu() for one in (table, training))
    form = count_contexts_reference if kernels().library is None else count_contexts_native
    counted = form(ids.cpu(), start.cpu(), real.cpu(), context.cpu(), table, training, orders)
    after = None if counted.table is None else counted.table.to(device)
    return Counted(counted.found.to(device), counted.context.to(device), after)


def count_text(
    ids: Int[Tensor, " t"],
    start: Bool[Tensor, " t"],
    context: Int[Tensor, " n"],
    table: Int32[Tensor, "l 16"],
    orders: Sequence[int],
) -> None:
    """Count a text into a table, both on the CPU, as `count_text_reference` defines it."""
    form = count_text_reference if kernels().library is None else count_text_native
    form(ids, start, context, table, orders)


def delta_memory(
    q: Float[Tensor, "b t n k"],
    k: Float[Tensor, "b t n k"],
    v: Float[Tensor, "b t n p"],
    log_decay: Float[Tensor, "b t n"],
    write: Float[Tensor, "b t n"],
    state: Float[Tensor, "b n k p"],
    chunk_size: int = 64,
) -> tuple[Float[Tensor, "b t n p"], Float[Tensor, "b n k p"]]:
    """The matrix memory: all reads and the last state, as `delta_memory_reference` defines them.

    Computed in the type of the state, also under autocast: sums over a long time need more than bfloat16.

    Args:
        q, k, v, log_decay, write, state: see `delta_memory_reference`.
        chunk_size: tokens per chunk of the parallel form.

    Returns:
        The reads (B, T, N, P) and the state after the last event (B, N, K, P).

    Example:
        Events read in two parts give the same as events read at once.

        >>> q, k = (torch.nn.functional.normalize(torch.randn(1, 9, 2, 4), dim=-1) for _ in range(2))
        >>> events = q, k, torch.randn(1, 9, 2, 4), -torch.rand(1, 9, 2), torch.rand(1, 9, 2)
        >>> whole, end = delta_memory(*events, torch.zeros(1, 2, 4, 4))
        >>> first, state = delta_memory(*(x[:, :3] for x in events), torch.zeros(1, 2, 4, 4))
        >>> second, state = delta_memory(*(x[:, 3:] for x in events), state)
        >>> torch.testing.assert_close(torch.cat([first, second], 1), whole)
        >>> torch.testing.assert_close(state, end)
    """
    with torch.autocast(q.device.type, enabled=False):
        if takes(q, k, v, wide=(log_decay, write, state)):
            return delta_memory_native(q, k, v, log_decay, write, state, chunk_size)
        if _plain(q.shape[1]):
            return delta_memory_reference(q, k, v, log_decay, write, state)
        return delta_memory_chunked(q, k, v, log_decay, write, state, chunk_size)


def liquid_scan(
    decay: Float[Tensor, "b t h"], drive: Float[Tensor, "b t h"], h0: Float[Tensor, "b h"]
) -> Float[Tensor, "b t h"]:
    """h_i = decay_i ⊙ h_{i−1} + drive_i for every i (B, T, H). The last h is the next h0.

    A linear recurrence runs in parallel over time (Martin & Cundy 2018, "Parallelizing Linear Recurrent
    Neural Nets Over Sequence Length", arXiv:1709.04057).

    Args:
        decay, drive: (B, T, H).
        h0: (B, H) h before the first event.

    Example:
        >>> liquid_scan(torch.full((1, 3, 1), 0.5), torch.ones(1, 3, 1), torch.zeros(1, 1)).flatten()
        tensor([1.0000, 1.5000, 1.7500])
    """
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
    """The liquid time cell over a sequence (B, T, H), as `liquid_relax_reference` defines it.

    Here a gap (within `duration`) becomes a decay, in fused form. Arguments: see `liquid_relax_reference`.
    """
    if takes(synapse, wide=(leak, duration, pace, h0)):
        return liquid_relax_native(synapse, leak, duration, pace, h0, start)
    if _plain(synapse.shape[1]):
        return liquid_relax_reference(synapse, leak, duration, pace, h0, start)
    return liquid_relax_fused(synapse, leak, duration, pace, h0, start)


def nonlinear_relax(
    encoded: Float[Tensor, "b t c"],
    synapse: Float[Tensor, "b t two_h"],
    of_state: Float[Tensor, "c h"],
    of_context: Float[Tensor, "two_h c"],
    leak: Float[Tensor, " h"],
    duration: Float[Tensor, "b t"],
    pace: Float[Tensor, " h"],
    h0: Float[Tensor, "b h"],
    start: Bool[Tensor, "b t"] | None = None,
) -> Float[Tensor, "b t h"]:
    """The liquid time cell whose rates depend on its own state, over a sequence (B, T, H).

    `nonlinear_relax_reference` defines it. Arguments: see there. What depends on the state is computed in the
    type of `leak`, also under autocast.
    """
    given = (encoded, synapse, of_state, of_context, leak, duration, pace, h0)
    if takes(encoded, synapse, wide=given[2:]) and encoded.dtype == synapse.dtype:
        return nonlinear_relax_native(*given, start)
    with torch.autocast(synapse.device.type, enabled=False):
        return nonlinear_relax_reference(*given, start)


def short_conv(
    x: Float[Tensor, "b t h"],
    weight: Float[Tensor, "h w"],
    tail: Float[Tensor, "b w_minus_1 h"],
    segment: Float[Tensor, "b t"] | None,
    log_gap: Float[Tensor, "b t"],
    gap_scale: Float[Tensor, " h"],
) -> Float[Tensor, "b t h"]:
    """The short convolution over the events of each document, as `short_conv_reference` defines it."""
    weight, gap_scale = weight.to(tail.dtype), gap_scale.to(tail.dtype)
    if takes(x, wide=(weight, tail, segment, log_gap, gap_scale)) and product_dtype(x) in TYPES:
        return short_conv_native(x, weight, tail, segment, log_gap, gap_scale)
    # The number of events next to a start depends on data. The shapes of a graph must not.
    if torch.compiler.is_exporting() or (torch.compiler.is_compiling() and segment is not None):
        return short_conv_reference(x, weight, tail, segment, log_gap, gap_scale).to(product_dtype(x))
    return short_conv_shifted(x, weight, tail, segment, log_gap, gap_scale)


def queries_keys_values(
    x: Float[Tensor, "b t c"], heads: int, writes: int
) -> tuple[Float[Tensor, "b t n k"], Float[Tensor, "b s n k"], Float[Tensor, "b s n k"]]:
    """Queries, keys and values of the matrix memory, as `queries_keys_values_reference` defines them."""
    if takes(x):
        return queries_keys_values_native(x, heads, writes)
    return queries_keys_values_reference(x, heads, writes)


def swiglu(gate: Float[Tensor, "*b m"], up: Float[Tensor, "*b m"]) -> Float[Tensor, "*b m"]:
    """silu(gate) ⊙ up, the product within a gated MLP, as `swiglu_reference` defines it."""
    if gate.dtype == up.dtype and takes(gate, up):
        return swiglu_native(gate, up)
    return swiglu_reference(gate, up)


def layer_norm(x: Float[Tensor, "*b h"], weight: Float[Tensor, " h"], eps: float) -> Float[Tensor, "*b h"]:
    """LayerNorm without bias, as `layer_norm_reference` defines it, in the type of matrix products."""
    if takes(x, weight) and product_dtype(x) in TYPES:
        return layer_norm_native(x, weight, eps)
    return layer_norm_reference(x, weight, eps).to(product_dtype(x))


def add_layer_norm(
    x: Float[Tensor, "*b h"], y: Float[Tensor, "*b h"], weight: Float[Tensor, " h"], eps: float
) -> tuple[Float[Tensor, "*b h"], Float[Tensor, "*b h"]]:
    """x + y, and `layer_norm` of it.

    Args:
        x: the residual stream.
        y: what a layer adds to it.
        weight, eps: see `layer_norm_reference`.
    """
    if takes(y, weight, wide=(x,)) and product_dtype(x) in TYPES:
        return add_layer_norm_native(x, y, weight, eps)
    total = x + y
    return total, layer_norm(total, weight, eps)


def gated_layer_norm(
    x: Float[Tensor, "*b h"], gate: Float[Tensor, "*b h"], weight: Float[Tensor, " h"], eps: float
) -> Float[Tensor, "*b h"]:
    """`layer_norm` of x, times silu(gate).

    Args:
        x: the vectors.
        gate: a number for each of theirs.
        weight, eps: see `layer_norm_reference`.
    """
    if takes(gate, weight, wide=(x,)) and product_dtype(x) in TYPES:
        return gated_layer_norm_native(x, gate, weight, eps)
    return layer_norm(x, weight, eps) * F.silu(gate)
