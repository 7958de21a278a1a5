"""Where a text may be cut, so that its parts are read and tokenized as the whole text would be."""

import re
from collections.abc import Iterable, Iterator

PART = 1 << 20
"""Characters of a document that are read at a time."""
PIECE = 4096
"""Characters of a text that the tokenizer gets at a time."""
# GPT-2's pre-tokenizer never joins a space to the word before it, so a text may be cut in front of the first
# space after a word. Not in front of a second one: "a  b" is "a", " ", " b". And not at any \s: U+001C is
# white space to Python, but part of a word to the pre-tokenizer.
CUT = re.compile(r"(?<=\S)[ \n]")


def parts(texts: Iterable[str], part_size: int | None) -> Iterator[str]:
    """The texts, one after the other, in parts of `part_size` to 2·`part_size` characters; None: in one part.

    Each part ends before white space that follows a word, if there is any in this range.
    """
    if part_size is None:
        yield "".join(texts)
        return
    rest = ""
    for text in texts:
        rest += text
        while len(rest) > 2 * part_size:
            found = CUT.search(rest, part_size, 2 * part_size)
            cut = found.start() if found else 2 * part_size
            yield rest[:cut]
            rest = rest[cut:]
    yield rest


def pieces(text: str, size: int) -> Iterator[str]:
    """`text` in pieces of at least `size` characters that the pre-tokenizer splits as it splits the whole.

    >>> list(pieces("one two  three", 1))
    ['one', ' two', '  three']
    """
    start = 0
    while cut := CUT.search(text, start + size):
        yield text[start : cut.start()]
        start = cut.start()
    yield text[start:]


def lines(texts: Iterable[str]) -> Iterator[str]:
    """The lines of a text that comes in parts, without their line breaks.

    >>> list(lines(["one\\ntw", "o\\n"]))
    ['one', 'two']
    """
    rest = ""
    for text in texts:
        *whole, rest = (rest + text).split("\n")
        yield from whole
    if rest:
        yield rest
