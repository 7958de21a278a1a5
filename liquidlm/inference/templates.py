"""The kind of a line: its text with numbers masked, and the numbers that are in it."""

import re
from typing import NamedTuple

MASK = "#"
MAX_LENGTH = 200
"""Characters of a kind. Lines that differ only after them are of one kind."""
MAX_NUMBERS = 8
"""Numbers of a line that are looked at."""
_WORD = re.compile(r"\b[^\W\d]*\d\w*")
_NUMBER = re.compile(
    r"(?:\b([A-Za-z_]{1,24})[=: ]{1,2})?(?<![\w.])(\d{1,15}(?:\.\d{1,9})?)"
    r"(ms|[uµn]s|s|sec|seconds|min|h)?(?![\w])(?!\.\d)"
)
_DURATION = re.compile("time|took|taken|dur|latency|elapsed|delay|wait", re.IGNORECASE)


class Number(NamedTuple):
    """A number of a line.

    Attributes:
        value: as it is written, without its unit.
        duration: whether its unit, or the word before it, says that it is a time.
    """

    value: float
    duration: bool


def template(text: str) -> str:
    """The kind of a line: each word with a digit becomes `#`.

    Example:
        >>> template("GET /items/17 200 12ms")
        'GET /items/# # #'
    """
    return _WORD.sub(MASK, text.strip()[: 4 * MAX_LENGTH])[:MAX_LENGTH]


def numbers(text: str) -> list[Number]:
    """The first numbers of a line, in order. Parts of names and of addresses do not count.

    Example:
        >>> numbers("worker3 took 12.5 from 10.0.0.1, size 7")
        [Number(value=12.5, duration=True), Number(value=7.0, duration=False)]
    """
    found = []
    for match in _NUMBER.finditer(text[: 4 * MAX_LENGTH]):
        word, digits, unit = match.groups()
        found.append(Number(float(digits), bool(unit or (word and _DURATION.search(word)))))
        if len(found) == MAX_NUMBERS:
            break
    return found
