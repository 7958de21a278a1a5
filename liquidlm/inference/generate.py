"""Reading a prompt into a state, and writing text from it, at constant cost and memory per token.

`model.generate()` does the same for users of transformers. This is the plain loop of the command line: the
caller holds the state.
"""

import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from numbers import Integral, Real
from types import NoneType
from typing import Any

import torch
from jaxtyping import Float, Float64, Int, Num
from torch import Tensor
from transformers.generation import logits_process as warpers

from ..errors import LiquidError
from ..model.folded import FoldedEmbedding
from ..model.language_model import LiquidLanguageModel
from ..model.step import LiquidStep
from ..nn.state import LiquidCache
from ..ops.native import sample_native, takes

COLDEST = 1e-4
"""Below this temperature the likeliest token is taken."""
PENALISED = 1024
"""The repetition penalty counts this many of the last tokens."""


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn from its distribution.

    Attributes:
        temperature: divides the logits; below COLDEST, such as 0, the likeliest token is taken.
        top_k: draw from the k likeliest tokens only; 0 keeps all.
        top_p: draw from the smallest set of likeliest tokens with at least this probability (Holtzman et al.
            2019, arXiv:1904.09751).
        repetition_penalty: over 1 makes the last 1,024 tokens less likely (Keskar et al. 2019,
            arXiv:1909.05858); 1 is off.
        seed: of the random numbers; None takes a new one each time.

    Raises:
        LiquidError: a value is out of range.

    Example:
        >>> Sampling(temperature=0.0).greedy, Sampling(top_k=40, seed=1).greedy
        (True, False)
        >>> Sampling(top_p=0.0)
        Traceback (most recent call last):
            ...
        liquidlm.errors.LiquidError: top_p must be a number greater than 0 and at most 1, not 0.0
    """

    temperature: float = 0.8
    top_k: int = 0
    top_p: float = 0.95
    repetition_penalty: float = 1.0
    seed: int | None = None

    def __post_init__(self):
        for name, kind, fine, rule in (
            ("temperature", Real, lambda x: 0 <= x < math.inf, "a number of at least 0"),
            ("top_k", Integral, lambda x: x >= 0, "a whole number of at least 0 (0 keeps all)"),
            ("top_p", Real, lambda x: 0 < x <= 1, "a number greater than 0 and at most 1"),
            (
                "repetition_penalty",
                Real,
                lambda x: 1e-3 <= x <= 1e3,
                "a number in 0.001…1000 (1 is none)",
            ),
            ("seed", (Integral, NoneType), lambda x: x is None or abs(x) < 2**63, "a whole number below 2⁶³"),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, kind) or not fine(value):
                raise LiquidError(f"{name} must be {rule}, not {value!r}")

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is taken. At so low a temperature, logits would overflow in float32."""
        return self.temperature < COLDEST

    def processors(self) -> warpers.LogitsProcessorList:
        """The logits processors of transformers for these settings, in its order."""
        chosen = warpers.LogitsProcessorList()
        if self.repetition_penalty != 1:
            chosen.append(warpers.RepetitionPenaltyLogitsProcessor(self.repetition_penalty))
        if not self.greedy:
            chosen.extend(self.warpers())
        return chosen

    def warpers(self) -> warpers.LogitsProcessorList:
        """Those of the processors that narrow the distribution."""
        chosen = warpers.LogitsProcessorList()
        if self.temperature != 1:
            chosen.append(warpers.TemperatureLogitsWarper(self.temperature))
        if self.top_k > 0:
            chosen.append(warpers.TopKLogitsWarper(self.top_k))
        if self.top_p < 1:
            chosen.append(warpers.TopPLogitsWarper(self.top_p))
        return chosen


@torch.no_grad()
def read(
    model: LiquidLanguageModel,
    input_ids: Int[Tensor, "b t"],
    state: LiquidCache,
    timestamps: Num[Tensor, "b t"] | None = None,
    *,
    chunk: int = 2048,
    table: FoldedEmbedding | None = None,
    progress: Callable[[int], object] | None = None,
) -> Float[Tensor, "b v"]:
    """Read tokens into a state, in constant memory.

    Args:
        model: the language model.
        input_ids: the tokens.
        state: is changed in place.
        timestamps: of the tokens; None puts them one unit apart.
        chunk: tokens per pass of the model.
        table: the model's embedding table, for a caller that reads often; None computes it.
        progress: called after every chunk with the number of tokens read.

    Returns:
        logits of the next token.

    Raises:
        LiquidError: there are no tokens, or the times decrease.
    """
    logits = read_output(
        model, input_ids, state, timestamps, chunk=chunk, table=table, progress=progress
    ).logits
    return logits[:, -1].float()


@torch.no_grad()
def read_output(
    model: LiquidLanguageModel,
    input_ids: Int[Tensor, "b t"],
    state: LiquidCache,
    timestamps: Num[Tensor, "b t"] | None = None,
    *,
    chunk: int = 2048,
    table: FoldedEmbedding | None = None,
    progress: Callable[[int], object] | None = None,
) -> Any:
    """As `read`, but returns the model's output (`LiquidOutput`) for the last token.

    Raises:
        LiquidError: there are no tokens, or the times decrease.
    """
    output = None
    for first in range(0, input_ids.shape[1], chunk):
        part = slice(first, first + chunk)
        times = None if timestamps is None else timestamps[:, part]
        output = model(
            input_ids[:, part],
            timestamps=times,
            past_key_values=state,
            use_cache=True,
            logits_to_keep=1,
            table=table,
        )
        if progress is not None:
            progress(min(first + chunk, input_ids.shape[1]))
    if output is None:
        raise LiquidError("there is nothing to read: give at least one token")
    return output


def write(
    model: LiquidLanguageModel,
    logits: Float[Tensor, "b v"],
    state: LiquidCache,
    sampling: Sampling,
    max_new_tokens: int,
    *,
    context: Int[Tensor, "b t"] | None = None,
    stop: Collection[int] = (),
    gap: float = 1.0,
    step: LiquidStep | None = None,
) -> Iterator[Int[Tensor, " b"]]:
    """Write text from a state: draw a token, read it into the state, draw the next.

    The last token is not read into `state`: to go on, pass it to the next `read` first.

    Args:
        model: the language model.
        logits: of the next token, as `read` returns them.
        state: is changed in place.
        sampling: how tokens are drawn.
        max_new_tokens: the largest number of tokens.
        context: the tokens so far, for the repetition penalty.
        stop: ids of tokens that end a text. Writing ends when every row has drawn one; it is yielded too.
        gap: time from each token to the next, in the unit of the timestamps.
        step: the model's `LiquidStep`, for a caller that writes several texts; None makes one.

    Yields:
        ids of the next tokens, of shape (b,).

    Raises:
        LiquidError: max_new_tokens is below 1.

    Example:
        >>> from liquidlm.inference.saving import load_model
        >>> model, tokenizer = load_model("stories")
        >>> ids, state = torch.tensor([tokenizer.encode("<s>Once upon a").tolist()]), model.new_state()
        >>> logits = read(model, ids, state)
        >>> tokens = write(model, logits, state, Sampling(temperature=0.0), 2)
        >>> tokenizer.decode([int(token) for token in tokens])
        ' time,'
    """
    draw = Sampler(sampling, max_new_tokens, logits, context, stop, suppressed(model))
    while True:
        yield (token := draw(logits))
        if draw.ended:
            return
        step = step or LiquidStep(model)
        logits = step(token, state, gap).float()


def write_timed(
    model: LiquidLanguageModel,
    output: Any,
    state: LiquidCache,
    sampling: Sampling,
    max_new_tokens: int,
    *,
    context: Int[Tensor, "b t"] | None = None,
    stop: Collection[int] = (),
    step: LiquidStep | None = None,
) -> Iterator[tuple[Int[Tensor, " b"], Float64[Tensor, " b"]]]:
    """As `write`, for a model with a time head: draws the time of each token too.

    At temperature 0 a gap is the median of its distribution.

    Args:
        model: a model with a time head.
        output: of the token before, as `read_output` returns it.
        state: is changed in place.
        sampling, max_new_tokens, context, stop, step: as in `write`.

    Yields:
        ids of the next tokens and their times, both of shape (b,).

    Raises:
        LiquidError: the model has no time head, or max_new_tokens is below 1.
    """
    if output.features is None:
        raise LiquidError("this model predicts tokens, not times: make or train a model with time_components")
    logits, features = output.logits[:, -1].float(), output.features[:, -1]
    draw = Sampler(sampling, max_new_tokens, logits, context, stop, suppressed(model))
    while True:
        token = draw(logits)
        with torch.no_grad():
            after = model.next_gap(features, token)
            gap = after.quantile(0.5) if sampling.greedy else after.sample(draw.generator)
            gap = gap.double() * model.config.time_scale
        yield token, state.last_time + gap
        if draw.ended:
            return
        step = step or LiquidStep(model)
        logits, features = step.read(token, state, gap)
        assert features is not None
        logits = logits.float()


def suppressed(model: LiquidLanguageModel) -> Collection[int]:
    """Ids of tokens that a model must not write (`generation_config.suppress_tokens`)."""
    return getattr(model.generation_config, "suppress_tokens", None) or ()


class Sampler:
    """Draws tokens from logits until a limit, or until every row has drawn a token of `stop`.

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
        self.sampling, self.left = sampling, max_new_tokens
        self.generator = torch.Generator(logits.device)
        if sampling.seed is None:
            self.generator.seed()
        else:
            self.generator.manual_seed(sampling.seed)
        if context is None:
            context = torch.zeros(len(logits), 0, dtype=torch.long, device=logits.device)
        self.context, self.ended = context[:, -PENALISED:], False
        self.suppressed = torch.tensor(sorted(suppressed), dtype=torch.long, device=logits.device)
        self.stops = frozenset(stop)
        self.stopped = torch.zeros(len(logits), dtype=torch.bool, device=logits.device)

    def allowed(self, logits: Float[Tensor, "b v"]) -> Float[Tensor, "b v"]:
        """The logits, with −∞ for suppressed tokens."""
        return logits.index_fill(1, self.suppressed, -math.inf) if len(self.suppressed) else logits

    @torch.no_grad()
    def __call__(self, logits: Float[Tensor, "b v"]) -> Int[Tensor, " b"]:
        """The ids of the next tokens, drawn from their logits."""
        scores, penalty = self.allowed(logits), self.sampling.repetition_penalty
        if penalty != 1:
            processor = warpers.RepetitionPenaltyLogitsProcessor(penalty)
            scores = processor(self.context, scores)  # pyright: ignore[reportArgumentType]
        token = scores.argmax(-1) if self.sampling.greedy else self._drawn(scores)
        self.left -= 1
        for row, one in enumerate(token.tolist()):
            if one in self.stops:
                self.stopped[row] = True
        self.ended = self.left == 0 or bool(self.stopped.all())
        if penalty != 1:
            self.context = torch.cat([self.context, token[:, None]], 1)[:, -PENALISED:]
        return token

    def _drawn(self, scores: Float[Tensor, "b v"]) -> Int[Tensor, " b"]:
        """The first token whose cumulative probability is over a random number, in the order of the ids."""
        how = self.sampling
        chance = torch.rand(len(scores), dtype=torch.float64, generator=self.generator, device=scores.device)
        if takes(wide=[scores]):
            return sample_native(scores, chance, how.temperature, how.top_k, how.top_p)
        narrow = how.warpers()(self.context, scores)  # pyright: ignore[reportArgumentType]
        sums = narrow.softmax(-1, dtype=torch.float64).cumsum(-1)
        return torch.searchsorted(sums, chance[:, None] * sums[:, -1:], right=True)[:, 0]
