"""A program at a terminal: a pseudo-terminal that the tests type into and read from."""

import os
import pty
import select
from types import TracebackType

from tests import warm

PATIENCE = 120.0
"""Seconds after which what does not come is missed."""


class Terminal:
    """`liquidlm` at a terminal of its own; a context manager.

    Attributes:
        shown: all that the terminal has shown.
    """

    def __init__(self, *words: object):
        self.master, slave = pty.openpty()
        self.shown, self._seen = "", 0
        self.process = warm.start(words, slave, slave, slave, env={"TERM": "dumb"}, session=True)
        os.close(slave)

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)

    def type(self, keys: str) -> None:
        """Press these keys."""
        os.write(self.master, keys.encode())

    def until(self, text: str) -> str:
        """What is shown up to and with `text`, from where the last `until` ended."""
        while (found := self.shown.find(text, self._seen)) < 0:
            assert self._read(), f"{text!r} is missing: {self.shown!r}"
        begin, self._seen = self._seen, found + len(text)
        return self.shown[begin : self._seen]

    def ended(self) -> int:
        """The exit code, once the program has ended."""
        while self._read():
            pass
        return self.process.wait(PATIENCE)

    def _read(self) -> bool:
        """Read some more; False at the end."""
        ready, _, _ = select.select([self.master], [], [], PATIENCE)
        assert ready, f"nothing comes: {self.shown!r}"
        try:
            data = os.read(self.master, 65536)
        except OSError:  # Linux's way to say that the other end is closed
            return False
        self.shown += data.decode(errors="replace").replace("\r", "")
        return bool(data)
