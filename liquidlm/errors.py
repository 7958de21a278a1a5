"""The one exception that reports a user's mistake: what is wrong and what to do, in one line."""


class LiquidError(ValueError):
    """Raised for bad input (a wrong file, an id out of range, times that go back, …).

    The message is meant to be read by the user as it stands: it names what is wrong and what to do.
    The command line prints it alone, without a traceback, and exits with code 2.
    """


def first_line(error: Exception) -> str:
    """What another package's error says, short enough for one line."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
