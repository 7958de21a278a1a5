"""The next token: drawn from its logits."""

import math
from collections.abc import Collection, Sequence

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor
from transformers.generation import logits_process as warpers

from ..errors import LiquidError
from ..ops.native import sample_native, takes
from ..runtime.seeds import generator_seed
from .sampling import PENALISED, Sampling


class Sampler:
    """Draws tokens from logits until a limit, or until every row has drawn a token of `stop`.

    `draw` takes the tokens of several samplers at once.

    Args:
        sampling: how tokens are drawn.
        max_new_tokens: the limit.
        logits: of the first token: number of rows, and device.
        context: the tokens so far, for the repetition penalty.
        stop: ids of tokens that end a text.
        suppressed: ids of tokens that are never drawn.

    Attributes:
        ended: whether the text has ended.
        stopped: for each row, whether it has drawn a token of `stop`.

    Raises:
        LiquidError: max_new_tokens is below 1.
    """

    def __init__(
        self,
        sampling: Sampling,
        max_new_tokens: int,
        logits: Float[Tensor, "b v"],
        context: Int[Tensor, "b t"] | None,
        stop: Collection[int],
        suppressed: Collection[int] = (),
    ):
        if max_new_tokens < 1:
            raise LiquidError(f"max_new_tokens must be at least 1, not {max_new_tokens}")
        self.sampling, self.left, self.rows = sampling, max_new_tokens, len(logits)
        self.generator = torch.Generator(logits.device)
        if sampling.seed is None:
            self.generator.seed()
        else:
            self.generator.manual_seed(generator_seed(sampling.seed))
        if context is None:
            context = torch.zeros(len(logits), 0, dtype=torch.long, device=logits.device)
        self.context, self.ended = context[:, -PENALISED:], False
        self.counts = torch.zeros_like(logits, dtype=torch.float32) if sampling.counts else None
        self.bias = biases(sampling.logit_bias, logits)
        self.suppressed = torch.tensor(sorted(suppressed), dtype=torch.long, device=logits.device)
        self.stops = frozenset(stop)
        self.stopped = [False] * len(logits)

    def allowed(self, logits: Float[Tensor, "b v"]) -> Float[Tensor, "b v"]:
        """The logits, with −∞ for suppressed tokens."""
        return logits.index_fill(1, self.suppressed, -math.inf) if len(self.suppressed) else logits

    def __call__(self, logits: Float[Tensor, "b v"]) -> Int[Tensor, " b"]:
        """The ids of the next tokens, drawn from their logits.

        Raises:
            LiquidError: the logits are not finite.
        """
        tokens = draw([self], self.allowed(logits))
        if (tokens < 0).any():
            raise LiquidError("the model's output for this text is not finite")
        return tokens

    def shaped(self, logits: Float[Tensor, "b v"]) -> Float[Tensor, "b v"]:
        """The logits after biases, penalties and min_p."""
        how = self.sampling
        if self.bias is not None:
            logits = logits + self.bias
        if how.repetition_penalty != 1:
            processor = warpers.RepetitionPenaltyLogitsProcessor(how.repetition_penalty)
            logits = processor(self.context, logits)  # pyright: ignore[reportArgumentType]
        if self.counts is not None:
            drawn = (self.counts > 0).to(self.counts)
            logits = logits - (how.frequency_penalty * self.counts + how.presence_penalty * drawn)
        if how.min_p > 0 and not how.greedy:
            least = logits.amax(-1, keepdim=True) + how.temperature * math.log(how.min_p)
            logits = logits.masked_fill(logits < least, -math.inf)
        return logits

    def chance(self) -> Float64[Tensor, " b"]:
        """The next random number in [0, 1) of each row."""
        return torch.rand(
            self.rows, dtype=torch.float64, generator=self.generator, device=self.context.device
        )

    def took(self, tokens: Int[Tensor, " b"]) -> None:
        """Count tokens that were drawn."""
        self.left -= 1
        if self.stops:
            found = zip(self.stopped, tokens.tolist(), strict=True)
            self.stopped = [before or token in self.stops for before, token in found]
        self.ended = self.left == 0 or all(self.stopped)
        if self.counts is not None:
            ones = self.counts.new_ones(len(tokens), 1)
            self.counts.scatter_add_(1, tokens[:, None].clamp(min=0), ones)
        if self.sampling.repetition_penalty != 1:
            self.context = torch.cat([self.context, tokens[:, None]], 1)[:, -PENALISED:]


def biases(given: Sequence[tuple[int, float]], logits: Float[Tensor, "b v"]) -> Float[Tensor, " v"] | None:
    """What is added to the logit of each token; None for nothing.

    Raises:
        LiquidError: there is no such token.
    """
    if not given:
        return None
    tokens, values = zip(*given, strict=True)
    if not 0 <= min(tokens) <= max(tokens) < logits.shape[1]:
        wrong = next(token for token in tokens if not 0 <= token < logits.shape[1])
        raise LiquidError(f"logit_bias: there is no token {wrong}: the largest id is {logits.shape[1] - 1}")
    found = logits.new_zeros(logits.shape[1])
    found[torch.tensor(tokens, device=logits.device)] = torch.tensor(values).to(found)
    return found


def processors(sampling: Sampling) -> warpers.LogitsProcessorList:
    """The logits processors of transformers for temperature, top_k, top_p and the repetition penalty."""
    chosen = warpers.LogitsProcessorList()
    if sampling.repetition_penalty != 1:
        chosen.append(warpers.RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty))
    if not sampling.greedy:
        chosen.extend(narrowing(sampling))
    return chosen


def narrowing(sampling: Sampling) -> warpers.LogitsProcessorList:
    """Those of the processors that narrow the distribution: temperature, top_k and top_p."""
    chosen = warpers.LogitsProcessorList()
    if sampling.temperature != 1:
        chosen.append(warpers.TemperatureLogitsWarper(sampling.temperature))
    if sampling.top_k > 0:
        chosen.append(warpers.TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        chosen.append(warpers.TopPLogitsWarper(sampling.top_p))
    return chosen


@torch.no_grad()
def draw(samplers: Sequence[Sampler], logits: Float[Tensor, "b v"]) -> Int[Tensor, " b"]:
    """The next token of every row of several samplers, in one call; −1 for a row with NaN or ∞ in its logits.

    A token depends on its own row and sampler only, not on the others.

    >>> one, two = (Sampler(Sampling(temperature=0.0), 1, torch.zeros(1, 3), None, ()) for _ in range(2))
    >>> draw([one, two], torch.tensor([[0.0, 2.0, 1.0], [0.0, 1.0, 2.0]]))
    tensor([1, 2])

    Args:
        samplers: in the order of their rows.
        logits: of all rows, allowed ones only (`Sampler.allowed`).
    """
    sizes = [one.rows for one in samplers]
    if any(one.sampling.shapes for one in samplers):
        each = zip(samplers, logits.split(sizes), strict=True)
        logits = torch.cat([one.shaped(rows) for one, rows in each])
    form = _by_kernel if takes(wide=[logits]) else _by_processors
    tokens = form(samplers, logits)
    for one, own in zip(samplers, tokens.split(sizes), strict=True):
        one.took(own)
    return tokens


def _by_kernel(samplers: Sequence[Sampler], logits: Float[Tensor, "b v"]) -> Int[Tensor, " b"]:
    hows = [one.sampling for one in samplers for _ in range(one.rows)]
    return sample_native(
        logits,
        torch.cat([one.chance() for one in samplers]),
        torch.tensor([0.0 if how.greedy else how.temperature for how in hows]),
        torch.tensor([how.top_k for how in hows]),
        torch.tensor([how.top_p for how in hows], dtype=torch.float64),
    )


def _by_processors(samplers: Sequence[Sampler], logits: Float[Tensor, "b v"]) -> Int[Tensor, " b"]:
    """The first token whose cumulative probability is over a random number, in the order of the ids."""
    tokens, wrong = [], ~(logits < math.inf).all(-1)
    for one, rows in zip(samplers, logits.split([one.rows for one in samplers]), strict=True):
        chance = one.chance()
        if one.sampling.greedy:
            tokens.append(rows.argmax(-1))
            continue
        narrow = narrowing(one.sampling)(one.context, rows)  # pyright: ignore[reportArgumentType]
        sums = narrow.softmax(-1, dtype=torch.float64).cumsum(-1)
        tokens.append(torch.searchsorted(sums, chance[:, None] * sums[:, -1:], right=True)[:, 0])
    return torch.cat(tokens).masked_fill(wrong, -1)
