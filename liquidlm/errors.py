"""The one exception that reports a user's mistake: what is wrong and what to do, in one line."""


class LiquidError(ValueError):
    """Raised for bad input (a wrong file, an id out of range, times that go back, …).

    The message is meant to be read by the user as it stands: it names what is wrong and what to do.
    The command line prints it alone, without a traceback, and exits with code 2.
    """


def first_line(error: BaseException) -> str:
    """What another package's error says, short enough for one line."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def is_out_of_memory(error: BaseException) -> bool:
    """Whether Python, torch or the GPU's driver could not get memory."""
    said = str(error).lower()
    words = ("out of memory", "can't allocate memory", "not enough memory")  # torch's, on CPU
    torchs = isinstance(error, RuntimeError) and any(word in said for word in words)
    return torchs or isinstance(error, MemoryError)


def counted(number: int, what: str) -> str:
    """“1 document”, “2 documents”."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def printable(text: str) -> str:
    """The text with U+FFFD for bytes of file names that are no characters."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
