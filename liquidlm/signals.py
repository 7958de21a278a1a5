"""Stopping when asked to, at a place where nothing is lost."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def stop_signals(insistent: bool = True) -> Iterator[list[int]]:
    """A list that SIGINT and SIGTERM are put on, instead of ending the process; a second one ends it.

    Not if it is not `insistent`: torchrun hands on a signal that its processes may have had already, and
    itself ends those that are slow to stop.
    """
    received: list[int] = []

    def note(number: int, frame: object) -> None:
        if received and insistent:
            raise KeyboardInterrupt
        received.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
