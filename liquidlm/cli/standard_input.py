"""Standard input: all of it, what a pipe brings within a time limit, or pieces as they come."""

import os
import queue
import sys
import threading

READ = 8192
"""Bytes of one read."""
FIRST_LINES = 32
"""Lines that are enough to know a log by."""
QUIET = 2.0
"""Seconds without input after which fewer lines are enough."""


def read_all() -> bytes:
    """Standard input to its end."""
    return sys.stdin.buffer.read()


def read_pipe(seconds: float) -> bytes | None:
    """Standard input to its end; None if it is open and its first bytes do not come within `seconds`.

    A program that starts this one may leave a pipe open and never write to it: waiting for its end would
    take forever.
    """
    try:
        source = sys.stdin.fileno()
    except (OSError, ValueError):  # a stream in memory, which a program put there
        return read_all()
    pieces, data = arriving(source), bytearray()
    while True:
        try:
            piece = pieces.get(timeout=None if data else seconds)
        except queue.Empty:
            return None
        if isinstance(piece, OSError):
            raise piece
        if not piece:
            return bytes(data)
        data += piece


def arriving(source: int) -> "queue.Queue[bytes | OSError]":
    """The bytes of a file descriptor as they come; at its end no bytes, or the error that ended it.

    A thread reads them, since Windows cannot wait for standard input with a time limit.
    """
    pieces = queue.Queue[bytes | OSError](maxsize=1)
    threading.Thread(target=_read, args=(source, pieces), daemon=True).start()
    return pieces


class Pieces:
    """Standard input as it comes; its first lines can be looked at before."""

    def __init__(self):
        self._waiting, self._seen = arriving(sys.stdin.fileno()), b""
        self._ended = False

    def next(self, seconds: float | None) -> bytes:
        """The next bytes; none at the end.

        Args:
            seconds: to wait; None: for ever.

        Raises:
            queue.Empty: none have come in this time.
            OSError: reading has failed.
        """
        if self._seen:
            data, self._seen = self._seen, b""
            return data
        if self._ended:
            return b""
        data = self._waiting.get(timeout=seconds)
        if isinstance(data, OSError):
            raise data
        self._ended = not data
        return data

    def first_lines(self) -> bytes:
        """The first FIRST_LINES lines or more, or all until the end, or until nothing comes for QUIET seconds
        after a line. `next` gives them again."""
        data = b""
        while data.count(b"\n") < FIRST_LINES:
            try:
                piece = self.next(QUIET if b"\n" in data else None)
            except queue.Empty:
                break
            if not piece:
                break
            data += piece
        self._seen = data
        return data


def _read(source: int, pieces: "queue.Queue[bytes | OSError]") -> None:
    data: bytes | OSError = b"-"
    while data and not isinstance(data, OSError):
        try:
            data = os.read(source, READ)
        except OSError as error:
            data = error
        pieces.put(data)
