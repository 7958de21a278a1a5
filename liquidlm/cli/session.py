"""`liquidlm generate` at a terminal, without a prompt: lines and their continuations, one text."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import LiquidError
from ..runtime.signals import stop_signals
from ..text.clock.stamps import find_stamp
from .text_so_far import TextSoFar, begin_text, say
from .writer import Writer

HOW_TO = """\
Type the beginning of a text and press Enter: the model continues it. Your next line continues the same text.
With an empty line, the model continues alone. Ctrl-C stops the output. Ctrl-D ends the session."""

WAKE_UP = 0.2
"""Seconds between two looks at signals, while the session waits for a line."""


class Ended(Exception):
    """A signal that ends the session came while it waited for a line."""


def run_session(writer: Writer, *, save_state: Path | None = None, load_state: Path | None = None) -> int:
    """Read lines and continue each, with the state kept between them, until Ctrl-D or a signal.

    Ctrl-C ends only the answer that is being written.

    Returns:
        the signal that ended it, or 0.
    """
    with suppress(ImportError):  # not on Windows
        import readline as readline  # lets `input` edit lines

    text, number = begin_text(writer.model, writer.tokenizer, load_state), 0
    say(HOW_TO)
    try:
        while not number and (line := _read_line()) is not None:
            number = _answer(writer, text, line, insistent=save_state is None)
    except Ended as error:
        (number,) = error.args
    finally:
        if save_state is not None:
            text.save(save_state, writer.model, writer.tokenizer, writer.timestamps)
    return number


def _read_line() -> str | None:
    """The next line; None at Ctrl-D. Ctrl-C drops what was typed."""
    with _ending_signals():
        while True:
            try:
                return input("> ")
            except EOFError:
                print()
                return None
            except KeyboardInterrupt:
                print()
                say("Ctrl-D ends the session.")
            except UnicodeDecodeError:
                say("This line is not UTF-8 text. Type it again.")


@contextmanager
def _ending_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP raise `Ended`, so that the state is saved.

    readline misses a signal that comes just before it waits for a key. A timer wakes it up to look again.
    """

    def end(number: int, frame: object) -> None:
        raise Ended(number)

    numbers = [signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
    before = {number: signal.signal(number, end) for number in numbers}
    if hasattr(signal, "setitimer"):
        before[signal.SIGALRM] = signal.signal(signal.SIGALRM, lambda number, frame: None)
        signal.setitimer(signal.ITIMER_REAL, WAKE_UP, WAKE_UP)
    try:
        yield
    finally:
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0.0)
        for number, handler in before.items():
            signal.signal(number, handler)


def _answer(writer: Writer, text: TextSoFar, line: str, insistent: bool) -> int:
    """Continue the text after a line; the signal that is to end the session, or 0."""
    if not line and not text.tokens:
        say("The text has ended. Type a line to continue it.")
        return 0
    try:
        given = writer.prompt(text, _break_before(writer, text, line) + line)
    except LiquidError as error:  # times that go back
        say(f"error: {error}")
        return 0
    with stop_signals(insistent=insistent) as stopped:
        try:
            if writer.read(text, given, stopped):
                writer.write(text, given, stopped)
        finally:
            text.settle(writer.tokenizer)
    return next((number for number in stopped if number != signal.SIGINT), 0)


def _break_before(writer: Writer, text: TextSoFar, line: str) -> str:
    """The line break between the text so far and a typed line, if one is missing."""
    if not line or (writer.timestamps and find_stamp(line)):  # a line with a time brings its own
        return ""
    end = writer.tokenizer.decode(text.recent()[-1:])
    return "\n" if end and not end.endswith("\n") else ""
