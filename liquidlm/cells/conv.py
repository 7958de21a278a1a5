"""The short causal convolution that opens every mixer: an event sees the few before it."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..events import Events
from ..ops import short_conv


class ShortConvolution(nn.Module):
    """What a mixer sees of an event: x over the last W events (causal, depthwise), and the gap before it.

    u_i = Σ_j weight_j ⊙ x_{i−W+1+j} + gap_scale ⊙ log(1 + Δ_i); taps do not cross documents.
    """

    def __init__(self, hidden_size: int, width: int = 4):
        super().__init__()
        self.width = width
        self.weight = nn.Parameter(torch.randn(hidden_size, width) * 0.3)
        self.gap_scale = nn.Parameter(torch.randn(hidden_size) * 0.1)
        with torch.no_grad():
            self.weight[:, -1] += 1.0

    def forward(
        self, x: Float[Tensor, "b t h"], events: Events, tail: Float[Tensor, "b w h"]
    ) -> tuple[Float[Tensor, "b t h"], Float[Tensor, "b w h"]]:
        x = x.to(tail.dtype)
        u = short_conv(x, self.weight, tail, events.segment)
        u = u + self.gap_scale * torch.log1p(events.gap)[..., None]
        return u, self._tail(x, events, tail)

    def _tail(self, x: Tensor, events: Events, tail: Tensor) -> Tensor:
        """The last W−1 real inputs of each row's present document."""
        past, kept = torch.cat([tail, x], 1), self.width - 1
        if events.real is None:
            last = past[:, past.shape[1] - kept :].clone()  # a view would keep all of the past alive
            ends = past.new_full((len(past), 1), past.shape[1], dtype=torch.long)
        else:
            ends = (kept + events.real.sum(1))[:, None]
            last = past.gather(1, _columns(ends, kept)[..., None].expand(-1, -1, x.shape[2]))
        if not events.resets:
            return last
        numbers = F.pad(events.start.cumsum(1), (kept, 0))
        own = numbers.gather(1, _columns(ends, kept)) == numbers.gather(1, (ends - 1).clamp(min=0))
        return last * own[..., None]


def _columns(ends: Int[Tensor, "b 1"], count: int) -> Int[Tensor, "b {count}"]:
    """The `count` columns before each row's end."""
    return ends - count + torch.arange(count, device=ends.device)
