"""`LiquidError`, the exception for mistakes of users, and helpers for messages."""


class LiquidError(ValueError):
    """Bad input: a wrong file, an id out of range, times that decrease, and so on.

    The message is one line for the user: what is wrong, then what to do. The command line prints it without a
    traceback and exits with code 2.
    """


def install(extra: str) -> str:
    """What to do if the packages of an extra are missing; the package is installed from a clone.

    >>> install("serve")
    "in the clone of liquidlm: pip install -c constraints.txt -e '.[serve]'"
    """
    return f"in the clone of liquidlm: pip install -c constraints.txt -e '.[{extra}]'"


def first_line(error: BaseException) -> str:
    """The first line of the message of an error; the name of its class if there is no message.

    Of an error of the system, only its reason: the message around it names the file.

    >>> first_line(FileNotFoundError(2, "No such file or directory", "a.toml")), first_line(KeyError())
    ('No such file or directory', 'KeyError')
    """
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def message(error: BaseException) -> str:
    """The message of an error, without the number of a system's error.

    >>> message(FileNotFoundError(2, "No such file or directory", "a.toml")), message(LiquidError("no text"))
    ('a.toml: No such file or directory', 'no text')
    """
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    return error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that Python, torch or the GPU driver could not get memory."""
    said = str(error).lower()
    words = ("out of memory", "can't allocate memory", "not enough memory")  # torch's, on CPU
    torchs = isinstance(error, RuntimeError) and any(word in said for word in words)
    return torchs or isinstance(error, MemoryError)


def counted(number: int, what: str) -> str:
    """The number with its noun, in the singular or plural.

    Example:
        >>> counted(1, "document"), counted(2000, "document")
        ('1 document', '2,000 documents')
    """
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def printable(text: str) -> str:
    """The text with U+FFFD in place of bytes of a file name that are not UTF-8."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
