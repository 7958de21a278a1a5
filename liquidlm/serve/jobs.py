"""Jobs for the engine, and the updates that it sends about them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..inference.sampling import Sampling
from .prefixes import HashedPrompt, Snapshot
from .prompt_scores import PromptScores
from .tokens import Token


@dataclass(frozen=True)
class PromptRead:
    """The prompt is read.

    Attributes:
        cached_tokens: how many of its tokens came from the prefix cache.
    """

    cached_tokens: int


@dataclass(frozen=True)
class Finished:
    """The job is finished.

    Attributes:
        reason: "stop" at the end-of-document token, "length" at a limit, "failed" after an error, or
            "unbegun" if the time was up before the first token.
        why: the error message, or which limit.
    """

    reason: str
    why: str = ""


JobUpdate = PromptRead | PromptScores | Token | Snapshot | Finished
"""What the engine reports about a job: the prompt is read, its probabilities, then tokens or the state, then
the end."""


@dataclass(eq=False)
class Job:
    """A completion to write.

    Attributes:
        prompt: tokens to read first.
        sampling: how tokens are drawn.
        max_new_tokens: the largest number of tokens to draw; 0 only reads the prompt.
        stop: ids of tokens that end the completion.
        likeliest: how many of the likeliest tokens to report with each token; None reports no probabilities.
        prompt_likeliest: the same for the tokens of the prompt, which is then read without the prefix cache.
        seconds: time limit, from `Engine.submit` on.
        reads_only: report the state after the prompt, and write nothing.
        cancelled: whether the client has gone.
        submitted, deadline: beginning and end of the time limit, on the clock of `time.monotonic`.
        read, scores: the state after the prompt and the probabilities of its tokens, if it was read for
            another job of the request.
    """

    prompt: HashedPrompt
    sampling: Sampling
    max_new_tokens: int
    stop: Sequence[int] = ()
    likeliest: int | None = None
    seconds: float = float("inf")
    prompt_likeliest: int | None = None
    reads_only: bool = False
    cancelled: bool = False
    submitted: float = field(init=False, default=0.0)
    deadline: float = field(init=False, default=float("inf"))
    read: Snapshot | None = field(init=False, default=None)
    scores: PromptScores | None = field(init=False, default=None)
