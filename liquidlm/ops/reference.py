"""The operations as loops over events: they define what the fast forms compute. Read these first.

Shapes: B batch, T tokens, N memory heads, K key width, P value width, H hidden size.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor


def delta_memory_reference(
    q: Float[Tensor, "b t n k"],
    k: Float[Tensor, "b t n k"],
    v: Float[Tensor, "b t n p"],
    log_decay: Float[Tensor, "b t n"],
    write: Float[Tensor, "b t n"],
    state: Float[Tensor, "b n k p"],
) -> tuple[Float[Tensor, "b t n p"], Float[Tensor, "b n k p"]]:
    """The matrix memory, one event after the other: all reads (B, T, N, P) and the last state (B, N, K, P).

        gap    S⁻ = e^g S
        event  S  = S⁻ + η k (v − S⁻ᵀk)ᵀ
        read   o  = Sᵀq

    With keys of length 1 this is the gated delta rule (Yang et al. 2024, "Gated Delta Networks",
    arXiv:2412.06464).

    Args:
        q, k: (B, T, N, K) queries and keys.
        v: (B, T, N, P) values.
        log_decay: (B, T, N) g = −aΔ ≤ 0 for the gap before each event; −∞ where a document starts.
        write: (B, T, N) η ≥ 0, the strength of each write.
        state: (B, N, K, P) S before the first event.
    """
    q, k, v = (x.to(state.dtype) for x in (q, k, v))
    reads = []
    for i in range(q.shape[1]):
        faded = log_decay[:, i, :, None, None].exp() * state
        surprise = v[:, i] - torch.einsum("bnkp,bnk->bnp", faded, k[:, i])
        state = faded + write[:, i, :, None, None] * torch.einsum("bnk,bnp->bnkp", k[:, i], surprise)
        reads.append(torch.einsum("bnkp,bnk->bnp", state, q[:, i]))
    return torch.stack(reads, 1), state


def liquid_scan_reference(
    decay: Float[Tensor, "b t h"], drive: Float[Tensor, "b t h"], h0: Float[Tensor, "b h"]
) -> Float[Tensor, "b t h"]:
    """The diagonal recurrence h_i = decay_i ⊙ h_{i−1} + drive_i: every h (B, T, H)."""
    states, h = [], h0
    for i in range(decay.shape[1]):
        h = decay[:, i] * h + drive[:, i]
        states.append(h)
    return torch.stack(states, 1)


def liquid_relax_reference(
    synapse: Float[Tensor, "b t two_h"],
    leak: Float[Tensor, " h"],
    duration: Float[Tensor, "b t"],
    pace: Float[Tensor, " h"],
    h0: Float[Tensor, "b h"],
    start: Bool[Tensor, "b t"] | None = None,
) -> Float[Tensor, "b t h"]:
    """The liquid neuron dh/dt = −(leak + f)h + fA, one event after the other: every h (B, T, H).

        h ← h∞ + (h − h∞) · decay,    decay = e^{−λ·pace·duration},    λ = leak + f,    h∞ = fA/λ

    Args:
        synapse: (B, T, 2H); f = softplus(first half), A = second half.
        leak: (H,) 1/τ, per gap.
        duration: (B, T) how long each event and the gap before it last, in gaps.
        pace: (H,) how fast time passes for each unit.
        h0: (B, H) h before the first event.
        start: (B, T) true where a document starts: h is 0 before the event.
    """
    states, h = [], h0
    for i in range(synapse.shape[1]):
        f, potential = synapse[:, i].to(leak.dtype).chunk(2, -1)
        f = F.softplus(f)
        rate = leak + f
        exponent = -rate * pace * duration[:, i, None]
        if start is not None:
            h = h.masked_fill(start[:, i, None], 0.0)
        h = exponent.exp() * h - torch.expm1(exponent) * (f / rate) * potential
        states.append(h)
    return torch.stack(states, 1)


def nonlinear_relax_reference(
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
    """`liquid_relax_reference` with a synapse that depends on the state before the event (B, T, H).

        c = silu(encoded + of_state · tanh h),    h ← relaxed under (synapse + of_context · c)

    Args:
        encoded: (B, T, C) the context before silu, as far as it depends on the input.
        synapse: (B, T, 2H) the synapse, as far as it depends on the input.
        of_state: (C, H) what tanh h adds to the context.
        of_context: (2H, C) what the context adds to the synapse.
        leak, duration, pace, h0, start: see `liquid_relax_reference`.
    """
    encoded, synapse = encoded.to(leak.dtype), synapse.to(leak.dtype)
    states, h = [], h0
    for i in range(synapse.shape[1]):
        if start is not None:
            h = h.masked_fill(start[:, i, None], 0.0)
        context = F.silu(encoded[:, i] + h.tanh() @ of_state.mT)
        felt = (synapse[:, i] + context @ of_context.mT)[:, None]
        h = liquid_relax_reference(felt, leak, duration[:, i, None], pace, h)[:, 0]
        states.append(h)
    return torch.stack(states, 1)


def short_conv_reference(
    x: Float[Tensor, "b t h"],
    weight: Float[Tensor, "h w"],
    tail: Float[Tensor, "b w_minus_1 h"],
    segment: Float[Tensor, "b t"] | None,
    log_gap: Float[Tensor, "b t"],
    gap_scale: Float[Tensor, " h"],
) -> Float[Tensor, "b t h"]:
    """A causal depthwise convolution over the last W events of the same document, plus the gap (B, T, H).

        y_i = Σ_j weight_j ⊙ x_{i−W+1+j} + log_gap_i · gap_scale,    j = 0…W−1

    Args:
        x: (B, T, H) the events.
        weight: (H, W).
        tail: (B, W−1, H) the events before x.
        segment: (B, T) the number of the document of each event; 0 is the document of the tail. None: all
            events and the tail are of one document.
        log_gap: (B, T) log(1 + Δ) of the gap before each event.
        gap_scale: (H,) the weight of log_gap for each unit.
    """
    width = weight.shape[1]
    past = torch.cat([tail, x], 1)
    if segment is None:
        segment = x.new_zeros(x.shape[:2])
    numbers = torch.cat([segment.new_zeros(x.shape[0], width - 1), segment], 1)
    outputs = []
    for i in range(x.shape[1]):
        seen = (numbers[:, i : i + width] == segment[:, i, None])[..., None]
        taps = torch.einsum("bwh,hw->bh", past[:, i : i + width] * seen, weight)
        outputs.append(taps + log_gap[:, i, None] * gap_scale)
    return torch.stack(outputs, 1)


def swiglu_reference(gate: Float[Tensor, "*b m"], up: Float[Tensor, "*b m"]) -> Float[Tensor, "*b m"]:
    """silu(gate) ⊙ up, silu(x) = x/(1 + e^{−x}). It has no events, so this is also the form in torch."""
    return F.silu(gate) * up


def layer_norm_reference(
    x: Float[Tensor, "*b h"], weight: Float[Tensor, " h"], eps: float
) -> Float[Tensor, "*b h"]:
    """weight ⊙ (x − mean)/√(variance + eps) over the last dimension. This is also the form in torch.

    Args:
        x: the vectors.
        weight: (H,).
        eps: is added to the variance.
    """
    return F.layer_norm(x, weight.shape, weight.to(torch.promote_types(weight.dtype, x.dtype)), None, eps)


def queries_keys_values_reference(
    x: Float[Tensor, "b t c"], heads: int, writes: int
) -> tuple[Float[Tensor, "b t n k"], Float[Tensor, "b s n k"], Float[Tensor, "b s n k"]]:
    """silu(x) as queries and keys of length 1, and as values; S = T·W. This is also the form in torch.

    Args:
        x: per event a query, W keys and W values, in this order; each has its N heads side by side.
        heads: N.
        writes: W, the keys and values of an event.

    Returns:
        Queries (B, T, N, K), keys (B, S, N, K) and values (B, S, N, K), with C = (1 + 2W)·N·K. What is
        shorter than 10⁻¹² is divided by 10⁻¹².
    """
    parts = F.silu(x).unflatten(-1, (1 + 2 * writes, heads, -1)).split([1, writes, writes], 2)
    q, k, v = (part.flatten(1, 2) for part in parts)
    return F.normalize(q, dim=-1), F.normalize(k, dim=-1), v
