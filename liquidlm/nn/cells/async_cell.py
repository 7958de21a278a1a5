"""The asynchronous liquid cell: a matrix memory read through time drives the liquid time cell."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ...errors import LiquidError
from ...ops import delta_memory, delta_memory_weights
from ..arguments import check_whole
from ..events import Events
from ..norm import Norm
from ..state import CellState
from .neuron import inverse_softplus, spread_time_constants
from .time_mixer import TimeMixer

HEAD_WIDTH = 64
STRETCH = 0.1
"""δ, by which write strengths are stretched past both ends, 0 and 2, and clipped there, so that both are
reached and not only approached: an event can leave the memory exactly as it is, or exactly reflect it. Short
by a hundredth, what is held fades in some hundred events, and short training texts do not tell."""
IDLE = 1e-4
"""Leak per gap below which a memory does not leak at all; see STRETCH."""


class Reads(NamedTuple):
    """What the writes of events ask of the memories, N heads, s = t·W writes: unit queries and keys, values,
    log decay, write strength."""

    q: Float[Tensor, "b s n k"]
    k: Float[Tensor, "b s n k"]
    v: Float[Tensor, "b s n p"]
    log_decay: Float[Tensor, "b s n"]
    write: Float[Tensor, "b s n"]


class AsyncLiquidCell(TimeMixer):
    """Events at real times, and the attention: per head a matrix memory S (K×P).

        gap    S⁻ = e^{−a(x)Δ} S                  the liquid leak, a ≥ 0, in physical time
        event  S  = (I − η k kᵀ) S⁻ + η k vᵀ      ‖k‖ = 1, η = clip(ρ(1 − e^{−β(x)}) − δ, 0, 2)
        read   o  = Sᵀ q

    Δ is `Events.elapsed`: the gap or, where many tokens are at one time, less of it and the event's own unit.
    For ρ = 1, δ = 0 in jump form the exact solution of dS/dt = −(aI + βkkᵀ)S + βkvᵀ. Gaps compose, tokens at
    one time are all written, nothing overflows however large Δ ≥ 0 is; with Δ ≡ 1 this is the gated delta
    rule (Yang et al. 2024). Here ρ = 2 + 2δ, the flow over-relaxed: a strong event reflects what the memory
    holds at its key (η = 2) and does not only replace it (η = 1), which is what tracking a state such as
    parity takes (Grazzi et al. 2025). Rates and strengths are stretched a little and clipped (as the gates of
    Louizos et al. 2018), so that a = 0, η = 0 and η = 2 are met exactly. The reads, normed per head and
    gated, are the context that drives the ImprovedLiquidTimeCell.

    Args:
        num_heads: memories; by default hidden_size/64 or the nearest smaller divisor of hidden_size.
        num_writes: W, writes per event, one after the other at its time, read after the last. Two
            reflections make a rotation, which tracking the products of a group such as S₃ takes (Siems et
            al. 2025); time grows with W.
        chunk_size: writes per chunk of the parallel form.

    `forward` is that of TimeMixer.
    """

    def __init__(
        self,
        hidden_size: int,
        dropout_rate: float = 0.1,
        *,
        num_heads: int | None = None,
        num_writes: int = 1,
        conv_width: int = 4,
        chunk_size: int = 64,
        time_scale: float = 1.0,
    ):
        super().__init__(hidden_size, dropout_rate, conv_width=conv_width, time_scale=time_scale)
        heads = default_heads(hidden_size) if num_heads is None else num_heads
        check_whole(num_heads=heads, num_writes=num_writes, chunk_size=chunk_size)
        if hidden_size % heads:
            raise LiquidError(f"num_heads ({heads}) must divide hidden_size ({hidden_size})")
        self.num_heads, self.head_width, self.chunk_size = heads, hidden_size // heads, chunk_size
        self.num_writes = num_writes
        self.qkv = nn.Linear(hidden_size, (1 + 2 * num_writes) * hidden_size, bias=False)
        self.rates = nn.Linear(hidden_size, (1 + num_writes) * heads)
        self.gate = nn.Linear(hidden_size, hidden_size, bias=False)
        self.head_norm = Norm(self.head_width)
        nn.init.normal_(self.rates.weight, std=0.1 * hidden_size**-0.5)
        replaced = torch.tensor(1 - math.exp(-1))  # η at the start
        with torch.no_grad():
            self.rates.bias[:heads] = inverse_softplus(IDLE + 1 / spread_time_constants(heads))
            self.rates.bias[heads:] = torch.logit((replaced + STRETCH) / (2 + 2 * STRETCH))

    def reads(self, u: Float[Tensor, "b t h"], events: Events) -> Reads:
        """Queries, keys, values, decays and write strengths of the events, in at least float32."""
        wide, heads, writes = events.gap.dtype, self.num_heads, self.num_writes
        q, keys_values = (
            F.silu(self.qkv(u)).unflatten(-1, (-1, heads, self.head_width)).split([1, 2 * writes], 2)
        )
        q, (k, v) = q.expand(-1, -1, writes, -1, -1), keys_values.chunk(2, 2)
        leak, strength = self.rates(u).to(wide).unflatten(-1, (-1, heads)).split([1, writes], 2)
        write = write_strength(strength)
        if events.real is not None:
            write = write * events.real[..., None, None]
        log_decay = -leak_rate(leak) * events.elapsed[..., None, None]
        log_decay = log_decay.masked_fill(events.start[..., None, None], float("-inf"))
        log_decay = F.pad(log_decay, (0, 0, 0, writes - 1))  # no time passes between the writes of an event
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
        return Reads(*(part.flatten(1, 2) for part in (q, k, v, log_decay, write)))

    def context(
        self, u: Float[Tensor, "b t h"], events: Events, state: CellState
    ) -> tuple[Float[Tensor, "b t h"], Float[Tensor, "b n k p"] | None]:
        """What the events read of the memory, and the memory after them."""
        assert state.memory is not None
        o, memory = delta_memory(*self.reads(u, events), state.memory, self.chunk_size)
        o = o[:, self.num_writes - 1 :: self.num_writes]
        return self.head_norm(o).flatten(2) * F.silu(self.gate(u)), memory

    def weights(
        self, x: Float[Tensor, "b t h"], events: Events, state: CellState
    ) -> Float[Tensor, "b wn t t"] | None:
        """w_ij, the exact weight of value j in read i: o_i = Σ_j w_ij v_j, beside the first state's part.

        With W writes, of each of an event's W values, all heads of the first write before those of the next.
        """
        q, k, _, log_decay, write = self.reads(self.conv(x, events, state.conv)[0], events)
        weights = delta_memory_weights(q, k, log_decay, write)[:, :, self.num_writes - 1 :: self.num_writes]
        return weights.unflatten(3, (-1, self.num_writes)).movedim(4, 1).flatten(1, 2)

    def initial_state(self, batch: int, dtype: torch.dtype, device: torch.device) -> CellState:
        state = super().initial_state(batch, dtype, device)
        shape = (batch, self.num_heads, self.head_width, self.head_width)
        return state._replace(memory=torch.zeros(shape, dtype=state.h.dtype, device=device))


def leak_rate(x: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    """a = max(0, softplus(x) − 10⁻⁴)."""
    return (F.softplus(x) - IDLE).clamp(min=0.0)


def write_strength(x: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    """η for β = softplus(x), for which 1 − e^{−β} is the sigmoid of x."""
    return ((2 + 2 * STRETCH) * torch.sigmoid(x) - STRETCH).clamp(0.0, 2.0)


def default_heads(hidden_size: int) -> int:
    """Heads at least 64 wide that divide the hidden size."""
    return next(n for n in range(max(1, hidden_size // HEAD_WIDTH), 0, -1) if hidden_size % n == 0)
