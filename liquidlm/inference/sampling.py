"""How the next token is drawn: what a user may choose. `sampler.py` does it."""

import math
from dataclasses import dataclass
from numbers import Integral, Real
from types import NoneType

from ..errors import LiquidError

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
        min_p: draw only from tokens with at least this share of the probability of the likeliest (Nguyen et
            al. 2024, arXiv:2407.01082); 0 keeps all. It comes before top_k and top_p.
        frequency_penalty: is subtracted from the logit of a token for each time that it was drawn.
        presence_penalty: is subtracted from the logits of tokens that were drawn.
        logit_bias: pairs (token, what is added to its logit).

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
    min_p: float = 0.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()

    def __post_init__(self):
        for name, kind, fine, rule in (
            ("min_p", Real, lambda x: 0 <= x <= 1, "a number in 0…1 (0 keeps all)"),
            ("frequency_penalty", Real, lambda x: abs(x) < math.inf, "a finite number (0 is none)"),
            ("presence_penalty", Real, lambda x: abs(x) < math.inf, "a finite number (0 is none)"),
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

    @property
    def shapes(self) -> bool:
        """Whether logits change before temperature, top_k and top_p."""
        penalty = self.repetition_penalty != 1 or self.counts
        return penalty or bool(self.logit_bias) or self.min_p > 0

    @property
    def counts(self) -> bool:
        """Whether it matters how often a token was drawn."""
        return self.frequency_penalty != 0 or self.presence_penalty != 0
