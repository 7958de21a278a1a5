"""Options of a reader of logs, checked without torch."""

from ..errors import LiquidError
from ..text.reading import ReadingOptions


def check_alarms(alarms: float) -> None:
    """Check how many lines are to stand out per day.

    Raises:
        LiquidError: it is not positive.

    Example:
        >>> check_alarms(5.0)
    """
    if not alarms > 0:
        raise LiquidError(f"alarms must be greater than 0, not {alarms}")


def check_late(options: ReadingOptions) -> None:
    """Check that lines can be read as they come.

    Raises:
        LiquidError: late lines are to be sorted.

    Example:
        >>> check_late(ReadingOptions(late="error"))
    """
    if options.late == "sort":
        raise LiquidError(
            "--late sort needs a whole file, and watch reads lines as they come: use --late clamp or error"
        )
