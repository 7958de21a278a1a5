"""A program at a terminal: a pseudo-terminal that the tests type into and read from."""

import fcntl
import os
import pty
import select
import signal
import subprocess
import sys
import termios
from types import TracebackType

PATIENCE = 120.0
"""Seconds after which what does not come is missed."""


def own_terminal() -> None:
    """In the child: ^C is a signal, and signals act as at a terminal.

    Tests that a shell started in the background (`&`, nohup) ignore them, and their children would, too.
    """
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)


class Terminal:
    """`liquidlm` at a terminal of its own; a context manager.

    Attributes:
        shown: all that the terminal has shown.
    """

    def __init__(self, *words: object):
        self.master, slave = pty.openpty()
        self.shown, self._seen = "", 0
        self.process = subprocess.Popen(
            [sys.executable, "-m", "liquidlm", *map(str, words)],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**os.environ, "TERM": "dumb"},
            start_new_session=True,
            preexec_fn=own_terminal,
        )
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
