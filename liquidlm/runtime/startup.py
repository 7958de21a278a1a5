"""What the command does before its imports, which take seconds: it is the first that the package imports."""

import os
import signal
import sys
from pathlib import Path

INTERRUPTED = 130
"""Exit code of a program that Ctrl-C has ended: 128 and the signal's number."""


def is_command() -> bool:
    """Whether this process is `liquidlm` or `python -m liquidlm`, not a program that imports the package."""
    name = Path(sys.argv[0]).stem if sys.argv else ""
    asked = any(word.endswith("liquidlm") for word in sys.orig_argv)
    return name == "liquidlm" or (name == "-m" and asked)  # -m while python looks for what to run


def leave(number: int, frame: object) -> None:
    """On Ctrl-C, without a word: there is nothing to lose yet."""
    os._exit(INTERRUPTED)


def ready() -> None:
    """From here on Ctrl-C is a KeyboardInterrupt again, so that what was begun is put away."""
    if signal.getsignal(signal.SIGINT) is leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def open_closed() -> None:
    """Have the descriptors 0, 1 and 2, lest a file that is opened later took the place of a closed one.

    Nothing comes from 0 then; writing to 1 fails as it does where it is closed; 2 takes all.
    """
    for descriptor, mode in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, mode)  # takes the lowest that is free


if is_command():
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, leave)
    open_closed()
