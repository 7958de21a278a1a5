"""Step-by-step loops that define what the fast forms must compute. Read these first; run the others.

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
    """The matrix memory, one event after the other.

    With g = log_decay ≤ 0 (−aΔ, or −inf where a document starts) and η = write ≥ 0:

        gap    S⁻ = e^g S
        event  S  = S⁻ + η k (v − S⁻ᵀk)ᵀ
        read   o  = Sᵀq

    With unit keys this is the gated delta rule (Yang et al. 2024, "Gated Delta Networks").
    Returns every read and the last state.
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
    """The diagonal recurrence h_i = decay_i ⊙ h_{i−1} + drive_i; returns every h."""
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
    """The liquid neuron dh/dt = −(leak + f)h + fA, one event after the other, from its synapse's output.

    f = softplus(synapse's first half), A its second half; each event lasts duration·pace (per unit), over
    which, with λ = leak + f,

        h ← h∞ + (h − h∞) e^{−λ·duration·pace},    h∞ = fA/λ;

    where `start` is true h is 0 before.
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


def short_conv_reference(
    x: Float[Tensor, "b t h"],
    weight: Float[Tensor, "h w"],
    tail: Float[Tensor, "b w_minus_1 h"],
    segment: Float[Tensor, "b t"] | None,
    drive: Float[Tensor, "b t"],
    scale: Float[Tensor, " h"],
) -> Float[Tensor, "b t h"]:
    """Causal depthwise convolution y_i = Σ_j weight_j ⊙ x_{i−W+1+j} + drive_i scale; `tail` is the past.

    `segment` numbers the documents of each row from 0 (the tail's own); taps do not cross documents.
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
        outputs.append(taps + drive[:, i, None] * scale)
    return torch.stack(outputs, 1)
