"""The limits of a server."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Limits of a server.

    Attributes:
        body_bytes: size of a request's body.
        bodies_bytes: size of all large bodies that are received, parsed or tokenized at the same time.
        body_seconds: time in which the body must arrive.
        values: numbers and other values in a body.
        prompt_tokens: tokens of a prompt.
        new_tokens: tokens of a completion.
        scores: probabilities of the tokens of prompts in one response.
        rows: completions written at the same time, and completions of one request.
        waiting: further completions that may wait.
        seconds: time for a completion, waiting included.
        cache_bytes: memory of the prefix cache.
        states: states that clients keep by name.
        states_bytes: memory or disk for them.
        shutdown_seconds: time that completions have to end when the server stops.
    """

    body_bytes: int = 16 << 20
    bodies_bytes: int = 32 << 20
    body_seconds: float = 60.0
    values: int = 1 << 20
    prompt_tokens: int = 1 << 20
    new_tokens: int = 1 << 16
    scores: int = 1 << 18
    rows: int = 32
    waiting: int = 256
    seconds: float = 600.0
    cache_bytes: int = 256 << 20
    states: int = 1000
    states_bytes: int = 256 << 20
    shutdown_seconds: float = 10.0
