"""The asynchronous liquid cell: a matrix memory read through time drives the liquid time cell."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..errors import LiquidError
from ..events import Events
from ..norm import Norm
from ..ops import delta_memory, delta_memory_weights
from ..state import CellState
from .neuron import inverse_softplus, spread_time_constants
from .time_mixer import TimeMixer

HEAD_WIDTH = 64
OVER_RELAXATION = 2.1
"""ρ, a little over the largest η, 2, so that 2 is reached and not only approached: a reflection that falls
short of it by a hundredth has faded after some hundred events, and short training texts do not tell."""
FIRST_STRENGTH = -math.log1p(-(1 - math.exp(-1)) / OVER_RELAXATION)
"""β at the start, where η = 1 − 1/e."""


class Reads(NamedTuple):
    """What events ask of the memories, N heads: unit queries and keys, values, log decay, write strength."""

    q: Float[Tensor, "b t n k"]
    k: Float[Tensor, "b t n k"]
    v: Float[Tensor, "b t n p"]
    log_decay: Float[Tensor, "b t n"]
    write: Float[Tensor, "b t n"]


class AsyncLiquidCell(TimeMixer):
    """Events at real times, and the attention: per head a matrix memory S (K×P).

        gap    S⁻ = e^{−a(x)Δ} S                  the liquid leak, a ≥ 0, in physical time
        event  S  = (I − η k kᵀ) S⁻ + η k vᵀ,  η = min(2, ρ (1 − e^{−β‖k‖²}))/‖k‖²
        read   o  = Sᵀ q

    For ρ = 1 in jump form the exact solution of dS/dt = −(aI + βkkᵀ)S + βkvᵀ. Gaps compose, tokens at one
    time are all written, nothing overflows however large Δ ≥ 0 is. Keys have unit length, so that
    η = min(2, ρ(1 − e^{−β})); with Δ ≡ 1 this is the gated delta rule (Yang et al. 2024). Here ρ = 2.1, the
    flow over-relaxed: a strong event reflects what the memory holds at its key (η = 2) and does not only
    replace it (η = 1), which is what tracking a state such as parity takes (Grazzi et al. 2025). The reads,
    normed per head and gated, are the context that drives the ImprovedLiquidTimeCell.

    Args:
        num_heads: memories; by default hidden_size/64 or the nearest smaller divisor of hidden_size.
        chunk_size: tokens per chunk of the parallel form.

    `forward` is that of TimeMixer.
    """

    def __init__(
        self,
        hidden_size: int,
        dropout_rate: float = 0.1,
        *,
        num_heads: int | None = None,
        conv_width: int = 4,
        chunk_size: int = 64,
        time_scale: float = 1.0,
    ):
        super().__init__(hidden_size, dropout_rate, conv_width=conv_width, time_scale=time_scale)
        heads = default_heads(hidden_size) if num_heads is None else num_heads
        if heads < 1 or hidden_size % heads or chunk_size < 1:
            raise LiquidError(
                f"num_heads ({heads}) must divide hidden_size ({hidden_size}),"
                f" and chunk_size ({chunk_size}) be positive"
            )
        self.num_heads, self.head_width, self.chunk_size = heads, hidden_size // heads, chunk_size
        self.qkv = nn.Linear(hidden_size, 3 * hidden_size, bias=False)
        self.rates = nn.Linear(hidden_size, 2 * heads)
        self.gate = nn.Linear(hidden_size, hidden_size, bias=False)
        self.head_norm = Norm(self.head_width)
        nn.init.normal_(self.rates.weight, std=0.1 * hidden_size**-0.5)
        leak, write = 1 / spread_time_constants(heads), torch.full((heads,), FIRST_STRENGTH)
        with torch.no_grad():
            self.rates.bias.copy_(inverse_softplus(torch.cat([leak, write])))

    def reads(self, u: Float[Tensor, "b t h"], events: Events) -> Reads:
        """Queries, keys, values, decays and write strengths of the events, in at least float32."""
        wide = events.gap.dtype
        q, k, v = F.silu(self.qkv(u)).unflatten(-1, (3 * self.num_heads, -1)).chunk(3, 2)
        leak, strength = F.softplus(self.rates(u).to(wide)).chunk(2, -1)
        write = write_strength(strength)
        if events.real is not None:
            write = write * events.real[..., None]
        log_decay = (-leak * events.gap[..., None]).masked_fill(events.start[..., None], float("-inf"))
        return Reads(F.normalize(q, dim=-1), F.normalize(k, dim=-1), v, log_decay, write)

    def context(
        self, u: Float[Tensor, "b t h"], events: Events, state: CellState
    ) -> tuple[Float[Tensor, "b t h"], Float[Tensor, "b n k p"] | None]:
        """What the events read of the memory, and the memory after them."""
        assert state.memory is not None
        o, memory = delta_memory(*self.reads(u, events), state.memory, self.chunk_size)
        return self.head_norm(o).flatten(2) * F.silu(self.gate(u)), memory

    def weights(
        self, x: Float[Tensor, "b t h"], events: Events, state: CellState
    ) -> Float[Tensor, "b n t t"] | None:
        """w_ij, the exact weight of value j in read i: o_i = Σ_j w_ij v_j, beside the first state's part."""
        q, k, _, log_decay, write = self.reads(self.conv(x, events, state.conv)[0], events)
        return delta_memory_weights(q, k, log_decay, write)

    def initial_state(self, batch: int, dtype: torch.dtype, device: torch.device) -> CellState:
        state = super().initial_state(batch, dtype, device)
        shape = (batch, self.num_heads, self.head_width, self.head_width)
        return state._replace(memory=torch.zeros(shape, dtype=state.h.dtype, device=device))


def write_strength(beta: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    """η of a unit key."""
    return (-OVER_RELAXATION * torch.expm1(-beta)).clamp(max=2.0)


def default_heads(hidden_size: int) -> int:
    """Heads at least 64 wide that divide the hidden size."""
    return next(n for n in range(max(1, hidden_size // HEAD_WIDTH), 0, -1) if hidden_size % n == 0)
