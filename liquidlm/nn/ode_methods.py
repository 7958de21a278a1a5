"""The names of the ODE solvers. Checking them needs no torch."""

from ..errors import LiquidError

FIXED_STEP = ("euler", "midpoint", "heun2", "heun3", "rk4", "explicit_adams", "implicit_adams")
ADAPTIVE = ("dopri5", "dopri8", "bosh3", "fehlberg2", "adaptive_heun")


def check_method(method: str, *others: str) -> None:
    """Check that a solver exists: one of torchdiffeq's or one of `others`.

    Raises:
        LiquidError: an unknown method; the message lists the known ones.
    """
    known = (*others, *FIXED_STEP, *ADAPTIVE)
    if method not in known:
        raise LiquidError(f"unknown ODE method {method!r}: choose one of {', '.join(known)}")
