"""Standard streams that cost nobody a result: what they cannot encode is replaced, what they cannot take is
told, or of messages left out."""

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
"""Exit code of a program whose reader has gone: 128 and the number of SIGPIPE."""


class OutputLost(LiquidError):
    """Standard output takes no more.

    Attributes:
        reader_gone: whoever read it has had enough (`| head`), which is no mistake and needs no words.
    """

    def __init__(self, error: OSError):
        super().__init__(f"cannot write standard output: {error.strerror or error}")
        self.reader_gone = error.errno == errno.EPIPE


class _Stream:
    """A stream that, once it cannot be written to, goes nowhere."""

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
            with suppress(OSError):  # what is left in the buffer goes nowhere, without another complaint
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self._stream.fileno())
                os.close(nowhere)
            self._tell(error)

    def _tell(self, error: OSError) -> None:
        """What is to be known of it."""


class Output(_Stream):
    """Standard output: raises OutputLost, once."""

    def _tell(self, error: OSError) -> None:
        raise OutputLost(error) from error


class Messages(_Stream):
    """Standard error: nothing is lost with it."""


@contextmanager
def standard_streams() -> Iterator[None]:
    """`sys.stdin`, `sys.stdout` and `sys.stderr` as these, also where they are closed."""
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
