"""The form of times that the user gives: a strptime format, or a regular expression with a group ``time``."""

import re
from dataclasses import replace

from ...errors import LiquidError
from .kinds import BEFORE_NAME, DAY, HALVES, NAME, Kind, kinds
from .words import HALF, WEEKDAY
from .zones import ZONE, ZONE_AGAIN

WORDS = {
    "Y": r"(?P<Y>\d{4})",
    "y": r"(?P<y>\d\d)",
    "m": r"(?P<m>\d\d?)",
    "b": NAME,
    "d": rf"\s?{DAY}",
    "j": r"(?P<j>\d{1,3})",
    "a": rf"{WEEKDAY}\.?",
    "H": r"\s?(?P<H>\d\d?)",
    "M": r"(?P<M>\d\d?)",
    "S": r"(?P<S>\d\d?)",
    "f": r"(?P<f>\d{1,12})",
    "p": rf"(?P<p>{HALF})",
    "z": rf"(?P<z>{ZONE}|\s?[A-Za-z]{{3,5}}){ZONE_AGAIN}",
    "s": r"(?P<s>\d{9,19})",
    "%": "%",
    "n": r"\s+",
    "t": r"\s+",
}
for same, word in {
    "B": "b",
    "h": "b",
    "e": "d",
    "A": "a",
    "I": "H",
    "k": "H",
    "l": "H",
    "L": "f",
    "N": "f",
    "Z": "z",
}.items():
    WORDS[same] = WORDS[word]
SHORT = {
    "T": "%H:%M:%S",
    "R": "%H:%M",
    "F": "%Y-%m-%d",
    "D": "%m/%d/%y",
    "c": "%a %b %d %H:%M:%S %Y",
    "r": "%I:%M:%S %p",
}
"""Words that stand for several."""
HOW = "such as '%d/%m/%Y %H:%M:%S', or a regular expression with a group (?P<time>…)"


def is_expression(text: str) -> bool:
    """Whether a format is a regular expression with a group ``time``."""
    return "(?P<time>" in text or "(?<time>" in text


def time_group(text: str) -> re.Pattern[str]:
    """The regular expression that finds a time.

    Raises:
        LiquidError: it is not one.
    """
    try:
        return re.compile(text.replace("(?<time>", "(?P<time>"))
    except re.error as error:
        raise LiquidError(
            f"--time-format {text}: not a regular expression ({error}): give one {HOW}"
        ) from error


def format_kind(text: str) -> Kind:
    """The kind of time that a strptime format describes.

    >>> import re
    >>> re.search(format_kind("%d.%m.%y %H:%M").pattern, "on 03.04.26 12:31")["d"]
    '03'

    Args:
        text: the words: %Y %y %m %b %d %j %a %H %I %M %S %f %p %z %Z %s, and those of `date` for several.

    Raises:
        LiquidError: a word is not known, is there twice, or there is too little for a time.
    """
    if re.fullmatch("%M:%S(?:[.,]%f)?", text):  # since the beginning; hours may come
        return replace(kinds()["00:12:31"], key=text, given=True)
    for short, words in SHORT.items():
        text = text.replace(f"%{short}", words)
    pattern = BEFORE_NAME if re.match(r"%\w", text) else ""
    used: list[str] = []
    for part in re.findall(r"%[-_0-9EO:]*.|\s+|[^%\s]+|%", text):
        if part[0] != "%":
            pattern += r"\s+" if part.isspace() else re.escape(part)
            continue
        if (name := part[-1]) not in WORDS or len(part) < 2:
            raise LiquidError(f"--time-format {text}: {part} is not known: give a strptime format, {HOW}")
        used.append(WORDS[name])
        pattern += WORDS[name]
    pattern = pattern.replace(rf"\.{WORDS['f']}", rf"(?:[.,]{WORDS['f']})?")
    groups = re.findall(r"\(\?P<(\w+)>", pattern)
    span = _span(set(groups))
    if len(groups) != len(set(groups)) or span is None:
        wrong = (
            "says a part of the time twice" if span else "says too little: give date and time of day, or %s"
        )
        raise LiquidError(f"--time-format {text} {wrong}, {HOW}")
    end = HALVES if "H" in groups and "p" not in groups and "%I" in text else ""
    return Kind(text, f"{pattern}{end}(?![^\\W_])", span, given=True)


def check_format(text: str) -> None:
    """Check what the user says about the form of times.

    Raises:
        LiquidError: it is neither a strptime format nor a regular expression.

    Example:
        >>> check_format("%d/%m/%Y %H:%M")
    """
    if is_expression(text):
        time_group(text)
    else:
        format_kind(text)


def _span(groups: set[str]) -> str | None:
    """What these parts of a time tell; None if it is too little for a time."""
    if "s" in groups:
        return "epoch"
    if groups & {"Y", "y"} and ("j" in groups or (groups & {"m", "b"} and "d" in groups)):
        return "date"
    if groups & {"m", "b"} and "d" in groups and "H" in groups:
        return "year"
    return "day" if "H" in groups and not groups & {"m", "b", "d", "j", "Y", "y"} else None
