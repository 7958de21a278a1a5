"""Freed memory is kept by the process, not handed back to the system."""

import ctypes
import sys

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3
"""glibc's names for mallopt's parameters."""


def keep_freed_memory() -> None:
    """Let the C library reuse large blocks, where it is glibc; elsewhere nothing.

    By default it returns them to the system at once, and each tensor of some megabytes begins with a page
    fault per 4 KiB: 5 to 10 % of a training step. For programs that own their process: the command line
    calls it, the library does not.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(MMAP_THRESHOLD, 1 << 30)
        mallopt(TRIM_THRESHOLD, (1 << 31) - 1)
        mallopt(TOP_PAD, 64 << 20)
