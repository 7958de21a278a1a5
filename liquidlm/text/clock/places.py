"""Where in a line a time stands, and what it takes of the line."""

import re
from typing import NamedTuple

REACH = 128
"""A time begins within this many characters of its line."""
LONGEST = 96
"""Characters that a time takes at most."""
HIDDEN = frozenset("\0\ufeff\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""What may stand before a line and is not seen: NUL bytes of a log that was cut, marks of direction."""
ANSI = re.compile(
    r"\x1b(?:\[[0-9;:?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])"
    rf"|\A[{''.join(sorted(HIDDEN))}]+"
)
"""A terminal's commands, such as colours, and what is hidden before a line."""
OPEN = {"[": "]", "(": ")", "<": ">", "{": "}", '"': '"', "'": "'"}
KEY = re.compile(r"""["']?(?P<key>[A-Za-z_@][\w@.-]*)["']?(?P<sign>=|:\s?)\s?["'\[(]?$""")
SIGNS = ("=", ":")
BEGIN, INDENTED = "begin", "begin, indented"
GROUP = re.compile(r"\[[^\[\]]*\](?=\s)")
"""Words in brackets, which count as one: the name of a thread may have several."""


class Stamp(NamedTuple):
    """The time of a line.

    Attributes:
        time: in seconds.
        begin, end: what the time takes of the line.
    """

    time: float
    begin: int
    end: int

    def without(self, line: str) -> str:
        """The text of the line without its time."""
        left, right = line[: self.begin], line[self.end :]
        return left + right if right else left.rstrip()


def place_of(line: str, begin: int) -> str:
    """The place of a time: BEGIN, INDENTED, the key or the sign before it, or the number of its word.

    >>> place_of("[12:00:00] started", 1), place_of("level=info ts=12:00:00", 14), place_of("INFO 12:00", 5)
    ('begin', 'key ts', 'word 1')

    Args:
        line: without a terminal's commands.
        begin: the position of the time.
    """
    prefix = line[:begin]
    prefix = prefix[:-1] if prefix.endswith(("*", ".")) else prefix  # what Cisco says about its clock
    bare = prefix.strip()
    if bare.startswith("<") and (priority := re.match(r"<\d{1,3}>", bare)):
        bare = bare[priority.end() :]
    if not bare or (bare in OPEN and not prefix.endswith("  ")):
        return INDENTED if prefix[:1].isspace() else BEGIN
    if (key := _key_before(prefix)) and (key["sign"] == "=" or TIMES.search(key["key"])):
        return f"key {key['key'].lower()}"
    if prefix[-1].isspace():
        number = len((GROUP.sub("_", prefix) if "[" in prefix else prefix).split())
        return f"word {number}" + (", indented" if prefix[0].isspace() else "")
    return "after a letter" if prefix[-1].isalpha() else f"after {prefix[-1]}"


def _key_before(prefix: str) -> re.Match[str] | None:
    """The key at the end of a text."""
    if prefix.rstrip("\"'[( ")[-1:] not in SIGNS:  # the search alone is slow
        return None
    return KEY.search(prefix)


TIMES = re.compile(
    r"time|date|stamp|epoch|when|fecha|hora|(?:^|[_.@-])(?:ts|t|at|rt)$|^ts|^now$", re.IGNORECASE
)
NO_TIMES = re.compile(
    r"timeout|uptime|runtime|elapsed|duration|lifetime|expir|until|valid|deadline|next|last|_ms$|update|birth|until"
    r"|due|end",
    re.IGNORECASE,
)


def is_time_key(key: str) -> bool:
    """Whether a field with this name has the time of its line."""
    return bool(TIMES.search(key)) and not NO_TIMES.search(key)


def taken(line: str, begin: int, end: int) -> tuple[int, int]:
    """What a time takes of its line: brackets around it, its key, and the sign and space after it.

    >>> line = '10.0.0.1 - [31/Jan/2026:12:00:00 +0000] "GET /"'
    >>> begin, end = taken(line, 12, 38)
    >>> line[:begin] + line[end:]
    '10.0.0.1 - "GET /"'

    Args:
        line: the text.
        begin, end: the place of the time alone.
    """
    while begin and line[begin - 1] == " " and line[: begin - 1].rstrip()[-1:] in ("[", "("):
        begin -= 1
    close = end
    while line[close : close + 1] == " ":
        close += 1
    if begin and OPEN.get(line[begin - 1]) == line[close : close + 1] != "":
        begin, end = begin - 1, close + 1
    key = _key_before(line[:begin])
    if key and (key["sign"] == "=" or (key["sign"] == ":" and is_time_key(key["key"]))):
        begin = key.start()
    if not line[:begin].strip():
        begin = 0
    tail = line[end : end + 2]
    if tail[:1] in (":", ",", ";") and (len(tail) == 1 or tail[1].isspace() or begin):
        end, tail = end + 1, tail[1:]
    return begin, end + (tail[:1].isspace())


def is_plain(line: str) -> bool:
    """Whether all of a line is seen.

    >>> is_plain("a"), is_plain("\\x1b[1ma"), is_plain("\\0a")
    (True, False, False)
    """
    return "\x1b" not in line and line[:1] not in HIDDEN


def without_ansi(line: str) -> tuple[str, list[int]]:
    """The line without what is not seen of it, and for each place in it the place in the line.

    >>> without_ansi("\\x1b[1mab")
    ('ab', [4, 5, 6])
    """
    kept: list[int] = []
    begin = 0
    for found in ANSI.finditer(line):
        kept += range(begin, found.start())
        begin = found.end()
    kept += range(begin, len(line) + 1)
    return ANSI.sub("", line), kept
