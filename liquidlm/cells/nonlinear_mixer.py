"""The mixer over time whose cell is fully nonlinear in its state: one event after the other, no drift."""

from .time_cell import ImprovedLiquidTimeCell
from .time_mixer import TimeMixer


class NonlinearMixer(TimeMixer):
    """x ▶ u = conv(x), log(1+Δ) ▶ the liquid time cell with the context c = encoder([u, h]), h its own state.

    The rates and the drive of an event are those at the state before it, which then relaxes exactly over the
    event's duration (one step of exponential Euler). With rates and drives that depend on h, the state can
    have attractors: what it counts does not drift, as the product of a linear recurrence's steps does, so
    that parity or the products of a group hold for longer than any training text (Merrill et al. 2024).
    The price: a Python call per event, no parallel form over time; and two gaps compose only as nearly as
    the rates stay the same over them.

    Arguments and `forward` are those of TimeMixer.
    """

    def __init__(
        self,
        hidden_size: int,
        dropout_rate: float = 0.1,
        *,
        conv_width: int = 4,
        time_scale: float = 1.0,
    ):
        super().__init__(hidden_size, dropout_rate, conv_width=conv_width, time_scale=time_scale)
        self.cell = ImprovedLiquidTimeCell(hidden_size, dropout_rate, "state", hidden_size)
