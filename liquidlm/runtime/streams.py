"""Standard streams that do not crash a command.

Characters that cannot be encoded are replaced. If standard output fails, one error is raised; if standard
error fails, messages are dropped.
"""

import errno
import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

from ..errors import LiquidError
from .startup import open_closed

READER_GONE = 141
"""Exit code of a program whose reader closed the pipe: 128 plus the number of SIGPIPE."""


class OutputLost(LiquidError):
    """Standard output cannot be written.

    Attributes:
        reader_gone: the reader closed the pipe, as `| head` does. That is not an error and needs no message.
    """

    def __init__(self, error: OSError):
        super().__init__(f"cannot write standard output: {error.strerror or error}")
        self.reader_gone = error.errno == errno.EPIPE


class _Stream:
    """A stream that drops everything after its first failure."""

    def __init__(self, stream: Any):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
        self._stream, self._lost = stream, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        self._try(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        self._try(self._stream.flush)

    def _try(self, act: Callable[[], object]) -> None:
        if self._lost:
            return
        try:
            act()
        except OSError as error:
            self._lost = True
            with suppress(OSError):  # the rest of the buffer disappears without a second error
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self._stream.fileno())
                os.close(nowhere)
            self._report(error)

    def _report(self, error: OSError) -> None:
        """Report the first failure."""


class Output(_Stream):
    """Standard output: the first failure raises OutputLost."""

    def _report(self, error: OSError) -> None:
        raise OutputLost(error) from error


class Messages(_Stream):
    """Standard error: failures are ignored."""


@contextmanager
def standard_streams() -> Iterator[None]:
    """A context with `sys.stdout` as an `Output` and `sys.stderr` as `Messages`; closed ones are opened."""
    before = sys.stdin, sys.stdout, sys.stderr
    open_closed()
    given, out, messages = (
        io.TextIOWrapper(io.FileIO(number, mode, closefd=False), "utf-8") if stream is None else stream
        for number, (stream, mode) in enumerate(zip(before, "rww", strict=True))
    )
    sys.stdin = given
    sys.stdout, sys.stderr = cast(TextIO, Output(out)), cast(TextIO, Messages(messages))
    try:
        yield
    finally:
        sys.stdin, sys.stdout, sys.stderr = before
