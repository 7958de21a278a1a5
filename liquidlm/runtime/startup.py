"""The first module that the package imports: it makes the command ready for Ctrl-C and for closed streams.

The imports that follow may take seconds. A program that imports the package is left as it is.
"""

import os
import signal
import sys

INTERRUPTED = 130
"""Exit code of a program that Ctrl-C ended: 128 plus the number of the signal."""


def is_command() -> bool:
    """Whether this process is `liquidlm` or `python -m liquidlm`, not a program that imports the package."""
    name = os.path.splitext(os.path.basename(sys.argv[0]))[0] if sys.argv else ""  # pathlib takes longer
    asked = any(word.endswith("liquidlm") for word in sys.orig_argv)
    return name == "liquidlm" or (name == "-m" and asked)  # -m: Python is still looking for the module


def leave(number: int, frame: object) -> None:
    """The handler of Ctrl-C during the imports: exit silently, because there is no work to save."""
    os._exit(INTERRUPTED)


def ready() -> None:
    """Let Ctrl-C raise KeyboardInterrupt again, so that the command can clean up."""
    if signal.getsignal(signal.SIGINT) is leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def forget_interrupts() -> None:
    """Let the process end with its own exit code, even if Ctrl-C was pressed before.

    Python remembers a KeyboardInterrupt that left the `exec` of a string, as in the making of a dataclass.
    Then `python -m` ends by the signal, although the interrupt was caught. The next `exec` of a string
    forgets it.
    """
    exec("")


def open_closed() -> None:
    """Open the descriptors 0, 1 and 2 if they are closed, so that no later file gets one of these numbers.

    Then reading from 0 gives nothing, writing to 1 fails, and messages to 2 disappear.
    """
    for descriptor, mode in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, mode)  # gets the lowest free number


if is_command():
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, leave)
    open_closed()
