"""The time head: a distribution of the gap before the next token."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

NARROWEST = 0.1
"""Least σ of a component. Otherwise the density at a number that repeats often could grow without bound."""
LOG_LONGEST = math.log(1e30)
"""Means of ln gap stay within ± this, so that no drawn gap overflows."""


@dataclass(frozen=True)
class GapDistribution:
    """The distribution of a gap Δ, in units of `time_scale`: a mixture with a probability of Δ = 0.

        P(Δ = 0) = p₀,    else Δ ~ Σ_k w_k LogNormal(μ_k, σ_k)

    Clocks have a resolution r, such as one second: a gap Δ > 0 is recorded as r·max(1, round(Δ/r)). The
    recorded gap n·r has the probability of the interval (0, 1.5 r] for n = 1, else of ((n − ½) r, (n + ½) r].
    (With a density instead, narrow components at round numbers would win.) With r = 0 the gap is recorded
    exactly.

    Attributes:
        zero: logit of p₀.
        log_weights, mean, deviation: ln w_k, μ_k and σ_k.
        resolution: r.

    Example:
        The quantile is the inverse of the distribution function.

        >>> one = torch.zeros(1, 1)  # a single component, e^Normal(0, 1)
        >>> gap = GapDistribution(torch.full((1,), -2.0), one, one, one + 1)
        >>> median = gap.quantile(0.5)
        >>> torch.testing.assert_close(gap.cdf(median), torch.tensor([0.5]))
        >>> gap.cdf(torch.zeros(1))  # P(Δ = 0) = sigmoid(−2)
        tensor([0.1192])
    """

    zero: Float[Tensor, "*b"]
    log_weights: Float[Tensor, "*b k"]
    mean: Float[Tensor, "*b k"]
    deviation: Float[Tensor, "*b k"]
    resolution: float = 0.0

    def recorded(self, gap: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """The gaps as a clock with this resolution records them."""
        if not self.resolution:
            return gap
        steps = (gap / self.resolution).round().clamp(min=1)
        return torch.where((gap > 0) & steps.isfinite(), steps * self.resolution, gap)

    def log_prob(self, gap: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """ln p₀ where gap is 0, else ln (1 − p₀) + the log-density at gap.

        With a resolution r the density is the mean density of the recorded interval: its probability over r.
        """
        some = gap > 0
        gap = torch.where(some, self.recorded(gap), 1.0)
        log_gap = gap.log()[..., None]
        z = (log_gap - self.mean) / self.deviation
        log_density = -0.5 * z.square() - self.deviation.log() - 0.5 * math.log(2 * math.pi) - log_gap
        if self.resolution:
            log_density = self._mean_density(gap[..., None], log_density)
        positive = F.logsigmoid(-self.zero) + (self.log_weights + log_density).logsumexp(-1)
        return torch.where(some, positive, F.logsigmoid(self.zero))

    def _mean_density(
        self, gap: Float[Tensor, "*b 1"], middle: Float[Tensor, "*b k"]
    ) -> Float[Tensor, "*b k"]:
        """ln of the mean density of each component over the interval of a recorded gap.

        `middle` is the log-density within the interval. It is the result where the ends of the interval are
        too close for the precision.
        """
        half = self.resolution / 2
        first = gap < 3 * half  # the first interval begins at 0
        high = ((gap + half).log() - self.mean) / self.deviation
        width = torch.log1p(self.resolution / torch.where(first, gap, gap - half)) / self.deviation
        apart = width > torch.finfo(gap.dtype).eps ** 0.25
        low = torch.where(first, -1e4, high - torch.where(apart, width, 1.0))
        low, high = torch.where(low > 0, -high, low), torch.where(low > 0, -low, high)  # where ndtr is small
        below, above = torch.special.log_ndtr(low), torch.special.log_ndtr(high)
        between = above + torch.log(-torch.expm1(below - above)) - math.log(self.resolution)
        return torch.where(first | apart, between, middle)

    def cdf(self, gap: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """P(Δ ≤ gap) of the recorded Δ, for a recorded gap ≥ 0."""
        some = gap > 0
        end = torch.where(some, self.recorded(gap) + self.resolution / 2, 1.0)
        none = self.zero.sigmoid()
        return none + torch.where(some, (1 - none) * self._below(end.log()), 0.0)

    def survival(self, gap: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """P(Δ ≥ gap) of the recorded Δ, for a recorded gap ≥ 0. Like `cdf`, it includes gap itself."""
        start = self.recorded(gap) - self.resolution / 2
        some = gap > 0
        past_first = some & (start > 0.75 * self.resolution)  # the first interval begins at 0
        below = torch.where(past_first, self._below(torch.where(past_first, start, 1.0).log()), 0.0)
        return torch.where(some, (1 - self.zero.sigmoid()) * (1 - below), 1.0)

    def _below(self, log_gap: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """P(Δ ≤ gap | Δ > 0) of the exact gap, before it is recorded."""
        z = (log_gap[..., None] - self.mean) / self.deviation
        return (self.log_weights.exp() * torch.special.ndtr(z)).sum(-1)

    def quantile(self, p: float, rounds: int = 60) -> Float[Tensor, "*b"]:
        """The least gap with P(Δ ≤ gap) ≥ p, by bisection of ln gap in `rounds` steps; 0 where p₀ ≥ p."""
        low = torch.full_like(self.zero, -LOG_LONGEST)
        high = torch.full_like(self.zero, LOG_LONGEST)
        none = self.zero.sigmoid()
        for _ in range(rounds):
            middle = (low + high) / 2
            below = none + (1 - none) * self._below(middle) < p
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return torch.where(none >= p, 0.0, self.recorded(high.exp()))

    def sample(self, generator: torch.Generator | None = None) -> Float[Tensor, "*b"]:
        """One random gap per distribution."""
        drawn = torch.rand(
            self.zero.shape, generator=generator, dtype=self.zero.dtype, device=self.zero.device
        )
        weights = self.log_weights.exp().reshape(-1, self.log_weights.shape[-1])
        k = torch.multinomial(weights, 1, generator=generator).view(*self.zero.shape, 1)
        noise = torch.randn(self.zero.shape, generator=generator, dtype=drawn.dtype, device=drawn.device)
        chosen = self.mean.gather(-1, k)[..., 0] + self.deviation.gather(-1, k)[..., 0] * noise
        gap = self.recorded(chosen.clamp(max=LOG_LONGEST).exp())
        return torch.where(drawn < self.zero.sigmoid(), 0.0, gap)


class TimeHead(nn.Module):
    """(hidden state of a token, the next token) ▶ distribution of the gap between the two.

        p(x_{i+1}, Δ_{i+1} | past) = p(x_{i+1} | h_i) · p(Δ_{i+1} | h_i, x_{i+1})

    First what comes, then when. The parameters of the mixture are W h_i + b[x_{i+1}]: the next token tells
    whether Δ = 0, which is certain within a word. The mixture of log-normals is that of Shchur et al. 2020,
    "Intensity-Free Learning of Temporal Point Processes" (arXiv:1909.12127), with a probability of Δ = 0.

    Args:
        hidden_size: H.
        vocab_size: V.
        components: the number of log-normals; at the start their medians spread over 10⁻²…10⁴ units.
        resolution: the resolution of the clock, in units of `time_scale`; 0: exact.

    Example:
        >>> head = TimeHead(hidden_size=8, vocab_size=20)
        >>> gap = head(torch.randn(3, 8), torch.tensor([4, 5, 6]))
        >>> torch.testing.assert_close(gap.cdf(gap.quantile(0.9)), torch.full((3,), 0.9))
        >>> gap.sample().shape
        torch.Size([3])
    """

    def __init__(self, hidden_size: int, vocab_size: int, components: int = 8, resolution: float = 0.0):
        super().__init__()
        self.components, self.resolution = components, resolution
        self.of_state = nn.Linear(hidden_size, 1 + 3 * components)
        self.of_next = nn.Embedding(vocab_size, 1 + 3 * components)
        nn.init.zeros_(self.of_next.weight)
        nn.init.normal_(self.of_state.weight, std=0.02)
        nn.init.zeros_(self.of_state.bias)
        with torch.no_grad():
            self.of_state.bias[1 + components : 1 + 2 * components] = torch.linspace(-4.6, 9.2, components)

    def resize(self, vocab_size: int) -> None:
        """Change the size of the vocabulary. Rows are kept; new rows are 0, as all rows are at the start."""
        old = self.of_next.weight
        kept = min(len(old), vocab_size)
        self.of_next = nn.Embedding(vocab_size, old.shape[1], device=old.device, dtype=old.dtype)
        with torch.no_grad():
            self.of_next.weight.zero_()[:kept] = old[:kept]

    def forward(self, h: Float[Tensor, "*b h"], following: Int[Tensor, "*b"]) -> GapDistribution:
        """The distributions of the gaps between tokens and the tokens that follow.

        Args:
            h: (…, H) normalised hidden states of the tokens.
            following: (…) the ids of the next tokens.
        """
        wide = torch.promote_types(h.dtype, torch.float32)
        with torch.autocast(h.device.type, enabled=False):
            raw = self.of_state(h.to(self.of_next.weight.dtype)) + self.of_next(following)
            raw = raw.to(wide)
            zero, weights, mean, deviation = raw.split([1, *3 * [self.components]], -1)
            return GapDistribution(
                zero[..., 0],
                weights.log_softmax(-1),
                mean.clamp(-LOG_LONGEST, LOG_LONGEST),
                NARROWEST + F.softplus(deviation + 0.54),  # 1.1 at the start
                self.resolution,
            )
