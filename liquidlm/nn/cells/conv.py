"""The short causal convolution at the entrance of every mixer: an event sees the few events before it."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from ...ops import short_conv
from ..events import Events


class ShortConvolution(nn.Module):
    """A causal, depthwise convolution over the last W events, plus the gap before each event.

        u_i = Σ_j weight_j ⊙ x_{i−W+1+j} + gap_scale ⊙ log(1 + Δ_i),    j = 0…W−1

    An event sees only events of its own document.

    Args:
        hidden_size: H.
        width: W.
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
        """u (B, T, H), and the last W−1 inputs, which the next call takes as `tail`."""
        u = short_conv(x, self.weight, tail, events.segment, torch.log1p(events.gap), self.gap_scale)
        return u, last_inputs(x, events, tail)


def last_inputs(
    x: Shaped[Tensor, "b t h"], events: Events, tail: Shaped[Tensor, "b w h"]
) -> Shaped[Tensor, "b w h"]:
    """The last W real inputs of each row's current document, 0 where it has fewer.

    Args:
        x: (B, T, H) the inputs.
        events: which of them are real, and where documents start.
        tail: (B, W, H) the last inputs before x.
    """
    kept, length = tail.shape[1], x.shape[1]
    if events.real is None:
        # Copies: views would keep all of the past alive.
        last = torch.cat([tail[:, length:], x[:, max(0, length - kept) :].to(tail.dtype)], 1)
        ends = events.start.new_full((len(x), 1), kept + length, dtype=torch.long)
    else:
        past = torch.cat([tail, x.to(tail.dtype)], 1)
        ends = (kept + events.real.sum(1))[:, None]
        last = past.gather(1, _columns(ends, kept)[..., None].expand(-1, -1, x.shape[2]))
    if not events.resets:
        return last
    numbers = F.pad(events.start.cumsum(1), (kept, 0))
    own = numbers.gather(1, _columns(ends, kept)) == numbers.gather(1, (ends - 1).clamp(min=0))
    return last * own[..., None]


def _columns(ends: Int[Tensor, "b 1"], count: int) -> Int[Tensor, "b {count}"]:
    """The indices of the `count` columns before each row's end."""
    return ends - count + torch.arange(count, device=ends.device)
