"""Stopping when asked to, at a place where nothing is lost."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def stop_signals(insistent: bool = True) -> Iterator[list[int]]:
    """A list that SIGINT, SIGTERM and SIGHUP (a terminal that is closed) are put on, instead of ending the
    process; a second one ends it.

    Not if it is not `insistent`: torchrun hands on a signal that its processes may have had already, and
    itself ends those that are slow to stop. Nor a second SIGHUP, which a shell sends beside the terminal's.
    """
    received: list[int] = []
    hang_up = getattr(signal, "SIGHUP", None)  # not on Windows
    numbers = [signal.SIGINT, signal.SIGTERM]
    if hang_up is not None and signal.getsignal(hang_up) is not signal.SIG_IGN:  # as nohup has it
        numbers.append(hang_up)

    def note(number: int, frame: object) -> None:
        if received and insistent and number != hang_up:
            raise KeyboardInterrupt
        received.append(number)

    before = {number: signal.signal(number, note) for number in numbers}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
