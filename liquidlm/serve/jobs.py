"""What is asked of the engine, and what it tells."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..inference.generate import Sampling
from .prefixes import Prompt


@dataclass(frozen=True)
class Read:
    """The prompt is read; of so many of its tokens the state was there already."""

    cached_tokens: int


@dataclass(frozen=True)
class Token:
    """One that was drawn.

    Attributes:
        logprob: ln of its probability, before temperature and the like.
        likeliest: (id, ln p) of the likeliest, as many as were asked for.
        time: when it is, of a text with times.
    """

    id: int
    logprob: float | None = None
    likeliest: tuple[tuple[int, float], ...] = ()
    time: float | None = None


@dataclass(frozen=True)
class Ended:
    """The text is complete: "stop" at the model's own end, "length" where a limit was, "failed" with why;
    "unbegun" if its time was up before its first token."""

    reason: str
    why: str = ""


Event = Read | Token | Ended


@dataclass(eq=False)
class Job:
    """A text to write.

    Attributes:
        likeliest: how many of the likeliest tokens to tell with each; None tells no probabilities.
        seconds: from when it is submitted until it is cut off.
    """

    prompt: Prompt
    sampling: Sampling
    max_new_tokens: int
    stop: Sequence[int] = ()
    likeliest: int | None = None
    seconds: float = float("inf")
    cancelled: bool = False
    deadline: float = field(init=False, default=float("inf"))
