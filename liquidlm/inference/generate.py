"""Reading a prompt into a state, and writing on from it: constant cost and memory per token.

`model.generate()` does the same for users of transformers; this is the bare loop, with the state in the
caller's hands, that the command line uses.
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
from ..model.language_model import LiquidTextGenerationModel
from ..model.step import LiquidStep
from ..nn.state import LiquidCache

COLDEST = 1e-4
PENALISED = 1024
"""The repetition penalty looks back at this many tokens."""


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn from its distribution.

    Attributes:
        temperature: below COLDEST, such as 0, takes the likeliest token.
        top_k: only the k likeliest; 0 keeps all.
        top_p: only the smallest set of likeliest tokens with at least this probability.
        repetition_penalty: over 1 makes tokens of the last 1,024 less likely (Keskar et al. 2019).
        seed: of the draws; None takes a fresh one.
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
            ("top_p", Real, lambda x: 0 < x <= 1, "a number over 0 and at most 1"),
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
        """Whether nothing is drawn. So cold a distribution is the likeliest token's alone, and float32 could
        not hold its logits."""
        return self.temperature < COLDEST

    def processors(self) -> warpers.LogitsProcessorList:
        """transformers' own processors, in its order."""
        chosen = warpers.LogitsProcessorList()
        if self.repetition_penalty != 1:
            chosen.append(warpers.RepetitionPenaltyLogitsProcessor(self.repetition_penalty))
        if not self.greedy:
            if self.temperature != 1:
                chosen.append(warpers.TemperatureLogitsWarper(self.temperature))
            if self.top_k > 0:
                chosen.append(warpers.TopKLogitsWarper(self.top_k))
            if self.top_p < 1:
                chosen.append(warpers.TopPLogitsWarper(self.top_p))
        return chosen


@torch.no_grad()
def read(
    model: LiquidTextGenerationModel,
    input_ids: Int[Tensor, "b t"],
    state: LiquidCache,
    timestamps: Num[Tensor, "b t"] | None = None,
    *,
    chunk: int = 2048,
    table: FoldedEmbedding | None = None,
    progress: Callable[[int], object] | None = None,
) -> Float[Tensor, "b v"]:
    """Read tokens into `state`, `chunk` at a time in constant memory; the logits of what comes next.

    `table` is for a caller who reads much. `progress` is told the number of tokens read after every chunk.
    """
    logits = read_output(
        model, input_ids, state, timestamps, chunk=chunk, table=table, progress=progress
    ).logits
    return logits[:, -1].float()


@torch.no_grad()
def read_output(
    model: LiquidTextGenerationModel,
    input_ids: Int[Tensor, "b t"],
    state: LiquidCache,
    timestamps: Num[Tensor, "b t"] | None = None,
    *,
    chunk: int = 2048,
    table: FoldedEmbedding | None = None,
    progress: Callable[[int], object] | None = None,
) -> Any:
    """The same: the model's output for the last token."""
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
    model: LiquidTextGenerationModel,
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
    """Write on from a state: draw a token, read it, draw the next.

    The last token that was yielded has not been read into `state`: pass it first to the next `read`.
    Ends after max_new_tokens, or once every row has drawn a token of `stop` (which is yielded).

    Args:
        logits: of the next token, as `read` returns them.
        context: the tokens so far, which the repetition penalty looks back at.
        gap: time from each token to the next, in the unit of the timestamps.
        step: the model's LiquidStep, for a caller who writes several texts.
    """
    draw = Sampler(sampling, max_new_tokens, logits, context, stop, suppressed(model))
    while True:
        yield (token := draw(logits))
        if draw.ended:
            return
        step = step or LiquidStep(model)
        logits = step(token, state, gap).float()


def write_timed(
    model: LiquidTextGenerationModel,
    output: Any,
    state: LiquidCache,
    sampling: Sampling,
    max_new_tokens: int,
    *,
    context: Int[Tensor, "b t"] | None = None,
    stop: Collection[int] = (),
    step: LiquidStep | None = None,
) -> Iterator[tuple[Int[Tensor, " b"], Float64[Tensor, " b"]]]:
    """The same of a model with a time head, which also draws when: yields (B,) ids and their times.

    At temperature 0 a gap is the median of its distribution.

    Args:
        output: of the token before, as `read_output` returns it.

    Raises:
        LiquidError: the model has no time head.
    """
    if output.features is None:
        raise LiquidError("this model says what comes, not when: it was made without time_components")
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


def suppressed(model: LiquidTextGenerationModel) -> Collection[int]:
    """What a model is not to write, as `generate()` has it."""
    return getattr(model.generation_config, "suppress_tokens", None) or ()


class Sampler:
    """Draws tokens from logits, up to so many, or until every row has drawn one of `stop`.

    Attributes:
        ended: whether the last token drawn was the last.
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
        self.sampling, self.left, self.processors = sampling, max_new_tokens, sampling.processors()
        self.generator = torch.Generator(logits.device)
        if sampling.seed is None:
            self.generator.seed()
        else:
            self.generator.manual_seed(sampling.seed)
        if context is None:
            context = torch.zeros(len(logits), 0, dtype=torch.long, device=logits.device)
        self.context, self.ended = context[:, -PENALISED:], False
        self.suppressed = torch.tensor(sorted(suppressed), dtype=torch.long, device=logits.device)
        self.stops = torch.tensor(sorted(stop), dtype=torch.long, device=logits.device)
        self.stopped = torch.zeros(len(logits), dtype=torch.bool, device=logits.device)

    def allowed(self, logits: Float[Tensor, "b v"]) -> Float[Tensor, "b v"]:
        """The logits of what may be drawn, −∞ for the rest."""
        return logits.index_fill(1, self.suppressed, -math.inf) if len(self.suppressed) else logits

    @torch.no_grad()
    def __call__(self, logits: Float[Tensor, "b v"]) -> Int[Tensor, " b"]:
        scores = self.processors(self.context, self.allowed(logits))  # pyright: ignore[reportArgumentType]
        if self.sampling.greedy:
            token = scores.argmax(-1)
        else:
            token = torch.multinomial(scores.softmax(-1), 1, generator=self.generator)[:, 0]
        self.left -= 1
        self.stopped |= torch.isin(token, self.stops)
        self.ended = self.left == 0 or bool(self.stopped.all())
        if self.sampling.repetition_penalty != 1:
            self.context = torch.cat([self.context, token[:, None]], 1)[:, -PENALISED:]
        return token
