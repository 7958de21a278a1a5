"""A token with its probability, as the engine reports it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Token:
    """A token that was drawn, or one of a prompt.

    Attributes:
        id: of the token.
        logprob: ln of its probability, before temperature, top-k and top-p; None if not asked for, and for a
            token with nothing before it.
        likeliest: (id, ln p) of the likeliest tokens, as many as were asked for.
        time: of the token; None in a text without times.
    """

    id: int
    logprob: float | None = None
    likeliest: tuple[tuple[int, float], ...] = ()
    time: float | None = None
