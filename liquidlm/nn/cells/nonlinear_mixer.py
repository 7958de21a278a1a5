"""The mixer over time whose cell is fully nonlinear in its state: it can count without drift."""

from .time_cell import ImprovedLiquidTimeCell
from .time_mixer import TimeMixer


class NonlinearMixer(TimeMixer):
    """x ▶ u = conv(x), log(1+Δ) ▶ the liquid time cell with the context c = encoder([u, tanh h]).

    The rates and the drive of an event are those at the state before it, which then relaxes exactly over the
    event's duration (one step of exponential Euler). Such a state can have attractors, to which it is
    drawn back: what it counts need not drift, as a product of linear steps does, and products of groups that
    no diagonal linear recurrence can express are in reach (Merrill et al. 2024). Its context is as wide
    as the state, which is what there is to tell apart.

    The price: one event after the other, in Python, several times as long as the form that is parallel over
    time and with more to keep for the backward pass, about twice the parameters of a TimeMixer; and two gaps
    compose only as nearly as the rates stay the same over them.

    Arguments and `forward` are those of TimeMixer.
    """

    def _cell(self, dropout_rate: float) -> ImprovedLiquidTimeCell:
        return ImprovedLiquidTimeCell(self.hidden_size, dropout_rate, "state", self.hidden_size)
