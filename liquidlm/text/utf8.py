"""Bytes ▶ text and back: UTF-8, if no other encoding is asked for. An error says what a file is instead, and
what to do."""

import codecs
import re
from collections.abc import Iterator, Sequence
from functools import partial
from io import BufferedIOBase, BytesIO
from itertools import chain
from typing import cast

from ..errors import LiquidError

HEAD = 512
"""Bytes at the beginning of a file by which its format is recognized."""
BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
LONGEST_MARK = 4
"""Bytes of the longest byte order mark."""
FORMATS = (
    (b"\x1f\x8b", "compressed with gzip: let its name end in .gz"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd: decompress it"),
    (b"\xfd7zXZ", "compressed with xz: decompress it"),
    (b"BZh", "compressed with bzip2: decompress it"),
    (b"PK\x03\x04", "a zip archive (or an office document): unpack it, or save it as text"),
    (b"%PDF", "a PDF: save it as text"),
)
TAR = slice(257, 262)
"""Where a tar archive has the letters ustar."""
CONVERT = "convert it to UTF-8 (if it is Latin-1: iconv -f LATIN1 -t UTF-8), or give"
OR_OPTIONS = " --encoding, or --errors replace"


def marked_encoding(head: bytes) -> str:
    """The encoding that the first bytes of a text say: a byte order mark, or else UTF-8.

    >>> marked_encoding("año".encode("utf-16")), marked_encoding(b"year")
    ('utf-16', 'utf-8')

    Args:
        head: at least LONGEST_MARK bytes, if the text is that long.
    """
    return next((encoding for mark, encoding in BYTE_ORDER_MARKS if head.startswith(mark)), "utf-8")


def encoded(text: str, name: str) -> bytes:
    """The UTF-8 bytes of a text; `name` stands for the text in the message of an error.

    Raises:
        LiquidError: the text has half of a surrogate pair, which is not a character. JSON can contain one.
    """
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise LiquidError(
            f"{name} has a lone surrogate (U+{ord(text[error.start]):04X}) at character {error.start}, which"
            " UTF-8 cannot express; read the source with its right encoding, or remove the character"
        ) from error


def text_bytes(text: object) -> bytes:
    """The UTF-8 bytes of an argument that must be a text.

    Raises:
        LiquidError: it is not a text, or has half of a surrogate pair.
    """
    if not isinstance(text, str):
        raise LiquidError(f"expected a text (str), got {type(text).__name__}")
    return encoded(text, "the text")


def decode(data: bytes, name: str, errors: str = "strict") -> str:
    """The text of bytes, without a byte order mark; raises LiquidError as `decoded` does."""
    return "".join(decoded(cast(BufferedIOBase, BytesIO(data)), name, None, errors=errors))


def decoded(
    stream: BufferedIOBase, name: str, size: int | None, encoding: str | None = None, errors: str = "strict"
) -> Iterator[str]:
    """The text of a stream of bytes, without a byte order mark.

    Args:
        stream: the bytes.
        name: stands for the stream in the message of an error.
        size: bytes to read at a time; None: all at once.
        encoding: of the bytes; None: as a byte order mark says, or else UTF-8.
        errors: "strict", or "replace": a wrong byte becomes U+FFFD.

    Raises:
        LiquidError: the stream is not text in this encoding. The message names the format, or the first wrong
            byte.
    """
    head, told = stream.read(HEAD), encoding is not None
    if not told and b"\0" in head and (found := _format(head)):
        raise LiquidError(f"{name}: {found}")
    encoding = encoding or marked_encoding(head)
    decoder, read, first = codecs.getincrementaldecoder(encoding)(errors), 0, True
    rest = iter(partial(stream.read, -1 if size is None else size), b"")
    for data in chain([head], rest, [b""]):
        waiting = len(decoder.getstate()[0])
        try:
            text = decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            place, byte = read - waiting + error.start, error.object[error.start]
            what = "UTF-8" if encoding == "utf-8" else encoding
            wrong = f"not {what} text: 0x{byte:02x} at byte {place}"
            known = None if told else _format(head)
            advice = CONVERT if encoding == "utf-8" else "give another"
            raise LiquidError(f"{name}: {known or f'{wrong}; {advice}{OR_OPTIONS}'}") from error
        yield text.removeprefix("\ufeff") if first else text
        first, read = first and not text, read + len(data)


def _format(head: bytes) -> str | None:
    """The format of a file that begins with `head`, and what to do with the file; None if it may be text."""
    if marked_encoding(head) != "utf-8":
        return None
    for magic, what in FORMATS:
        if head.startswith(magic):
            return f"not text but {what}"
    if head[TAR] == b"ustar":
        return "not text but a tar archive: unpack it"
    even, odd = head[::2], head[1::2]
    for encoding, full, empty in (("utf-16-le", even, odd), ("utf-16-be", odd, even)):
        if len(head) > 3 and all(full) and not any(empty):  # ASCII without a byte order mark
            return f"{encoding} text, not UTF-8; give --encoding {encoding}"
    within = re.sub(rb"\0+", b"\0", head)  # a log that was cut while it was written to has a hole of these
    if 4 * within.strip(b"\0").count(0) > len(within):
        return f"not a text file: a NUL byte at byte {head.index(0)}, and many more"
    return None


def character_offsets(tokens: Sequence[bytes]) -> list[int]:
    """The number of the character in which each token begins. The tokens are the bytes of a text in parts.

    >>> character_offsets(["añ".encode()[:2], b"\\xb1", b"o"])
    [0, 1, 2]
    """
    found, characters = [], 0
    for token in tokens:
        found.append(characters - _continues(token[0]) if token else characters)
        characters += sum(not _continues(byte) for byte in token)
    return found


def _continues(byte: int) -> bool:
    return byte & 0xC0 == 0x80
