"""Words and ticks for times and durations in a plot."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from ..text.clock.stamps import format_stamp, is_dated

UNITS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))
STEPS = (1.0, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
"""Seconds between two ticks of a clock."""


def duration_text(seconds: float) -> str:
    """A duration in words, with two digits.

    >>> duration_text(0.02), duration_text(90.0), duration_text(7200.0)
    ('20 ms', '1.5 min', '2 h')
    """
    size, name = next(((size, name) for size, name in UNITS if seconds >= size), UNITS[-1])
    value = seconds / size
    return f"{value:.0f} {name}" if value >= 9.95 else f"{value:.2g} {name}"


def clock_text(time: float, dated: bool) -> str:
    """A time as it is written at the beginning of a line, without brackets.

    >>> clock_text(90.0, dated=False)
    '00:01:30'
    """
    return format_stamp(time, dated)[1:-1]


def clock_ticks(first: float, last: float, count: int) -> tuple[list[float], list[str]]:
    """Places of at most about `count` ticks between two times, and their labels.

    >>> clock_ticks(50.0, 400.0, 4)
    ([120.0, 240.0, 360.0], ['00:02:00', '00:04:00', '00:06:00'])
    """
    span = max(last - first, 1e-6)
    if span < count:  # below a second: the time since the first
        step = 10.0 ** math.ceil(math.log10(span / count))
        whole = [step * i for i in range(int(span / step) + 1)]
        return [first + each for each in whole], [f"+{each:.6g} s" for each in whole]
    step = next((float(step) for step in STEPS if span / step <= count), 0.0)
    step = step or 86400.0 * math.ceil(span / 86400.0 / count)
    places = [step * i for i in range(math.ceil(first / step), math.floor(last / step) + 1)]
    dated = is_dated(first)
    labels = [clock_text(each, dated) for each in places]
    days = {label[:10] for label in labels}
    if dated and len(days) == 1:
        labels = [label[11:] for label in labels]
    elif dated:
        labels = [label[5:16] for label in labels] if step < 86400 else [label[:10] for label in labels]
    return places, labels


def duration_ticks(shortest: float, longest: float, count: int = 6) -> list[float]:
    """Round durations within a range, for an axis with a logarithmic scale: at most `count`.

    >>> duration_ticks(0.5, 4000.0)
    [1.0, 10.0, 60.0, 600.0, 3600.0]
    """
    nice = [
        *(10.0**i for i in range(-9, 2)),
        60.0,
        600.0,
        3600.0,
        36000.0,
        *(86400 * 10.0**i for i in range(9)),
    ]
    found = [each for each in nice if shortest <= each <= longest]
    return found[:: max(1, math.ceil(len(found) / count))]


def spaced(places: Sequence[float] | Float64[np.ndarray, " n"], least: float) -> list[int]:
    """The numbers of places in order, so that each is at least `least` after the one before.

    >>> spaced([0.0, 1.0, 2.0, 5.0], 2.0)
    [0, 2, 3]
    """
    found: list[int] = []
    for number, place in enumerate(places):
        if not found or place - places[found[-1]] >= least:
            found.append(number)
    return found
