"""The asynchronous liquid cell: a matrix memory that leaks over time drives the liquid time cell.

A gap becomes the memory's decay in `AsyncLiquidCell.reads`, by `log_decay` of `decay.py`.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ...errors import LiquidError
from ...ops import delta_memory, delta_memory_weights, queries_keys_values
from ..arguments import check_integers
from ..events import Events
from ..norm import GatedNorm
from ..state import CellState
from .decay import inverse_softplus, log_decay, spread_time_constants
from .time_mixer import TimeMixer

HEAD_WIDTH = 64
"""Least default width of a head."""
STRETCH = 0.1
"""δ: write strengths are stretched by δ past 0 and past 2 and clipped there, so that they reach both exactly.

At 0 an event leaves the memory as it is. At 2 it reflects what the memory holds at its key. With strengths
that only come within 0.01 of these ends, a memory would fade within some hundred events."""
IDLE = 1e-4
"""Leak per gap that counts as no leak, so that a memory can keep what it holds without end."""


class Reads(NamedTuple):
    """What the events write to the memories and read from them, for S = T·W writes and N heads.

    Attributes:
        q, k: queries and keys, of length 1.
        v: values.
        log_decay: −aΔ before each write; −∞ where a document starts.
        write: η, the strength of each write.
    """

    q: Float[Tensor, "b s n k"]
    k: Float[Tensor, "b s n k"]
    v: Float[Tensor, "b s n p"]
    log_decay: Float[Tensor, "b s n"]
    write: Float[Tensor, "b s n"]


class AsyncLiquidCell(TimeMixer):
    """The mixer with attention: per head a matrix memory S (K×P) with events at real times.

        gap    S⁻ = e^{−a(x)Δ} S                  the memory leaks with the rate a ≥ 0
        event  S  = (I − η k kᵀ) S⁻ + η k vᵀ      ‖k‖ = 1, η = clip(ρ(1 − e^{−β(x)}) − δ, 0, 2)
        read   o  = Sᵀ q

    The reads, normalised per head and gated, are the input of the `ImprovedLiquidTimeCell`.

    - Δ is `Events.elapsed`. Two gaps compose, all tokens at one time are written, and no Δ ≥ 0 overflows.
    - With ρ = 1 and δ = 0 this is the exact solution of dS/dt = −(aI + βkkᵀ)S + βkvᵀ, where the terms with β
      act for one unit of internal time at each event. With Δ = 1 throughout it is the gated delta rule (Yang
      et al. 2024, "Gated Delta Networks", arXiv:2412.06464).
    - Here ρ = 2 + 2δ. An event can replace what the memory holds at its key (η = 1) and can also reflect it
      (η = 2). Tracking a state such as parity needs reflections (Grazzi et al. 2025, arXiv:2411.12537).
    - Rates and strengths are stretched and clipped, as the gates of Louizos et al. 2018 (arXiv:1712.01312),
      so that a = 0, η = 0 and η = 2 are reached exactly.

    `forward` is that of `TimeMixer`. Shapes: x (B, T, H), timestamps (B, T).

    Args:
        hidden_size: H.
        dropout_rate: dropout of the time cell's input, in [0, 1).
        num_heads: number of memories; None: H/64, or the nearest smaller divisor of H.
        num_writes: W, the writes per event, one after the other, at the time of the event; the memory is read
            after the last. Two reflections make a rotation, which the products of a group such as S₃ need
            (Siems et al. 2025, "DeltaProduct", arXiv:2502.10297). Compute time grows with W.
        conv_width: the number of events that the short convolution sees.
        chunk_size: writes per chunk of the parallel form.
        time_scale: the gap, in the unit of the timestamps, that counts as 1.

    Raises:
        LiquidError: a size or rate out of range, or a num_heads that does not divide H.

    Example:
        Events read in two parts give the same as events read at once.

        >>> cell = AsyncLiquidCell(16).eval()
        >>> x, times = torch.randn(1, 6, 16), torch.tensor([[0.0, 0.1, 0.1, 2.0, 50.0, 50.5]])
        >>> whole, weights = cell(x, times, need_weights=True)
        >>> first, _, state = cell(x[:, :4], times[:, :4], return_state=True)
        >>> second, _ = cell(x[:, 4:], times[:, 4:], state)
        >>> torch.testing.assert_close(torch.cat([first, second], 1), whole)
        >>> bool((weights.triu(1) == 0).all())  # no event reads a later one
        True
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
        check_integers(num_heads=heads, num_writes=num_writes, chunk_size=chunk_size)
        if hidden_size % heads:
            raise LiquidError(
                f"num_heads ({heads}) must divide hidden_size ({hidden_size}): choose a divisor"
            )
        self.num_heads, self.head_width, self.chunk_size = heads, hidden_size // heads, chunk_size
        self.num_writes = num_writes
        self.qkv = nn.Linear(hidden_size, (1 + 2 * num_writes) * hidden_size, bias=False)
        self.rates = nn.Linear(hidden_size, (1 + num_writes) * heads)
        self.gate = nn.Linear(hidden_size, hidden_size, bias=False)
        self.head_norm = GatedNorm(self.head_width)
        nn.init.normal_(self.rates.weight, std=0.1 * hidden_size**-0.5)
        replaced = torch.tensor(1 - math.exp(-1))  # η at the start
        with torch.no_grad():
            self.rates.bias[:heads] = inverse_softplus(IDLE + 1 / spread_time_constants(heads))
            self.rates.bias[heads:] = torch.logit((replaced + STRETCH) / (2 + 2 * STRETCH))

    def reads(self, u: Float[Tensor, "b t h"], events: Events) -> Reads:
        """Queries, keys, values, decays and write strengths of the events; the last two in at least float32.

        Args:
            u: (B, T, H) the events after the short convolution.
            events: their gaps, padding and documents.
        """
        wide, heads, writes = events.gap.dtype, self.num_heads, self.num_writes
        q, k, v = queries_keys_values(self.qkv(u), heads, writes)
        q = q[:, :, None].expand(-1, -1, writes, -1, -1).flatten(1, 2)
        leak, strength = self.rates(u).to(wide).unflatten(-1, (-1, heads)).split([1, writes], 2)
        write = write_strength(strength)
        if events.real is not None:
            write = write * events.real[..., None, None]
        fading = log_decay(leak_rate(leak), events.elapsed[..., None, None])
        fading = fading.masked_fill(events.start[..., None, None], float("-inf"))
        fading = F.pad(fading, (0, 0, 0, writes - 1))  # no time passes between the writes of an event
        return Reads(q, k, v, fading.flatten(1, 2), write.flatten(1, 2))

    def context(
        self, u: Float[Tensor, "b t h"], events: Events, state: CellState
    ) -> tuple[Float[Tensor, "b t h"], Float[Tensor, "b n k p"] | None]:
        """What the events read from the memory (B, T, H), and the memory after them."""
        assert state.memory is not None
        o, memory = delta_memory(*self.reads(u, events), state.memory, self.chunk_size)
        o = o[:, self.num_writes - 1 :: self.num_writes]
        return self.head_norm(o, self.gate(u).view_as(o)).flatten(2), memory

    def weights(
        self, x: Float[Tensor, "b t h"], events: Events, state: CellState
    ) -> Float[Tensor, "b wn t t"] | None:
        """w_ij, the exact weight of value j in read i: o_i = Σ_j w_ij v_j + (a part from the first state).

        With W writes per event, the second dimension holds all heads of the first write, then of the next.
        """
        q, k, _, fading, write = self.reads(self.conv(x, events, state.conv)[0], events)
        weights = delta_memory_weights(q, k, fading, write)[:, :, self.num_writes - 1 :: self.num_writes]
        return weights.unflatten(3, (-1, self.num_writes)).movedim(4, 1).flatten(1, 2)

    def initial_state(self, batch: int, dtype: torch.dtype, device: torch.device) -> CellState:
        """The state before the first event, with an empty memory."""
        state = super().initial_state(batch, dtype, device)
        shape = (batch, self.num_heads, self.head_width, self.head_width)
        return state._replace(memory=torch.zeros(shape, dtype=state.h.dtype, device=device))


def leak_rate(x: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    """a = max(0, softplus(x) − IDLE), per gap."""
    return (F.softplus(x) - IDLE).clamp(min=0.0)


def write_strength(x: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    """η = clip((2 + 2δ)(1 − e^{−β}) − δ, 0, 2) for β = softplus(x), so that 1 − e^{−β} = sigmoid(x)."""
    return ((2 + 2 * STRETCH) * torch.sigmoid(x) - STRETCH).clamp(0.0, 2.0)


def default_heads(hidden_size: int) -> int:
    """The largest number of heads that divides the hidden size with heads at least HEAD_WIDTH wide, or 1."""
    return next(n for n in range(max(1, hidden_size // HEAD_WIDTH), 0, -1) if hidden_size % n == 0)
