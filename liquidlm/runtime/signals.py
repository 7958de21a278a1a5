"""Signals that end a program, collected so that it can save its work first."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def stop_signals(insistent: bool = True) -> Iterator[list[int]]:
    """A context in which SIGINT, SIGTERM and SIGHUP are put on a list and do not end the process.

    SIGHUP comes when a terminal is closed; a shell may send it a second time, which is ignored.

    Args:
        insistent: a second SIGINT or SIGTERM raises KeyboardInterrupt. Use False under torchrun: it passes on
            signals that its processes may have received already, and ends slow processes itself.

    Returns:
        The list of the signals' numbers, empty at first.
    """
    received: list[int] = []
    hang_up = getattr(signal, "SIGHUP", None)  # not on Windows
    numbers = [signal.SIGINT, signal.SIGTERM]
    if hang_up is not None and signal.getsignal(hang_up) is not signal.SIG_IGN:  # under nohup
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
