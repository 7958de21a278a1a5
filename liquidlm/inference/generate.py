"""Reading a prompt into a state, and writing text from it, at constant cost and memory per token.

`model.generate()` does the same for users of transformers. This is the plain loop of the command line: the
caller holds the state.
"""

from collections.abc import Callable, Collection, Iterator
from typing import Any

import torch
from jaxtyping import Float, Float64, Int, Num
from torch import Tensor

from ..errors import LiquidError
from ..model.folded import FoldedEmbedding
from ..model.language_model import LiquidLanguageModel
from ..model.output import LiquidOutput
from ..model.step import LiquidStep
from ..nn.state import LiquidCache
from .sampler import Sampler
from .sampling import Sampling


@torch.no_grad()
def read(
    model: LiquidLanguageModel,
    input_ids: Int[Tensor, "b t"],
    state: LiquidCache,
    timestamps: Num[Tensor, "b t"] | None = None,
    *,
    chunk: int = 2048,
    table: FoldedEmbedding | None = None,
    step: LiquidStep | None = None,
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
        step: the model's `LiquidStep`, which reads faster; None: the model itself reads.
        progress: called after every chunk with the number of tokens read.

    Returns:
        logits of the next token.

    Raises:
        LiquidError: there are no tokens, or the times decrease.
    """
    logits = read_output(
        model, input_ids, state, timestamps, chunk=chunk, table=table, step=step, progress=progress
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
    step: LiquidStep | None = None,
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
        if step is None:
            output = model(
                input_ids[:, part],
                timestamps=times,
                past_key_values=state,
                use_cache=True,
                logits_to_keep=1,
                table=table,
            )
        else:
            logits, features = step.read_events(input_ids[:, part], state, times)
            output = LiquidOutput(logits=logits, past_key_values=state, features=features)
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
