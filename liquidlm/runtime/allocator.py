"""Freed memory stays with the process and is used again."""

import ctypes
import sys
from typing import Any

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD, ARENA_MAX = -1, -2, -3, -8
"""The numbers of mallopt's parameters in glibc."""


def keep_freed_memory() -> None:
    """Let glibc keep large blocks of freed memory; with another C library, do nothing.

    By default glibc returns them to the system at once. Then each tensor of some megabytes costs a page fault
    per 4 KiB, 5 to 10 % of a training step. Call it in programs, not in libraries: it changes the whole
    process.
    """
    if (mallopt := _of_libc("mallopt")) is not None:
        mallopt(MMAP_THRESHOLD, 1 << 30)
        mallopt(TRIM_THRESHOLD, (1 << 31) - 1)
        mallopt(TOP_PAD, 64 << 20)


def share_freed_memory() -> None:
    """Let all threads that begin later take from the same freed memory; with another C library, do nothing.

    By default glibc gives each thread an arena of its own, which keeps what was freed in it. The threads of a
    server then hold up to 64 MB each. As `keep_freed_memory`, it changes the whole process.
    """
    if (mallopt := _of_libc("mallopt")) is not None:
        mallopt(ARENA_MAX, 1)


def return_freed_memory() -> None:
    """Give freed memory back to the system once; with another C library, do nothing."""
    if (trim := _of_libc("malloc_trim")) is not None:
        trim(0)


def _of_libc(name: str) -> Any:
    """A function of the C library; None if it has none of this name."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform.startswith("linux") else None
