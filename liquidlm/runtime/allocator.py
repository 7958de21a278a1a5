"""Freed memory stays with the process and is used again."""

import ctypes
import sys

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3
"""The numbers of mallopt's parameters in glibc."""


def keep_freed_memory() -> None:
    """Let glibc keep large blocks of freed memory; with another C library, do nothing.

    By default glibc returns them to the system at once. Then each tensor of some megabytes costs a page fault
    per 4 KiB, 5 to 10 % of a training step. Call it in programs, not in libraries: it changes the whole
    process.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(MMAP_THRESHOLD, 1 << 30)
        mallopt(TRIM_THRESHOLD, (1 << 31) - 1)
        mallopt(TOP_PAD, 64 << 20)
