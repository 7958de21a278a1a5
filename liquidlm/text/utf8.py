"""Bytes ▶ text and back: UTF-8, if no other encoding is asked for. An error says what a file is instead, and
what to do."""

import codecs
from collections.abc import Iterator
from io import BufferedIOBase, BytesIO
from typing import cast

from ..errors import LiquidError

HEAD = 64
"""Bytes at the beginning of a file by which its format is recognized."""
BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
FORMATS = (
    (b"\x1f\x8b", "compressed with gzip: let its name end in .gz"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd: decompress it"),
    (b"\xfd7zXZ", "compressed with xz: decompress it"),
    (b"BZh", "compressed with bzip2: decompress it"),
    (b"PK\x03\x04", "a zip archive (or an office document): unpack it, or save it as text"),
    (b"%PDF", "a PDF: save it as text"),
)
CONVERT = "convert it to UTF-8 (if it is Latin-1: iconv -f LATIN1 -t UTF-8), or give"
OR_OPTIONS = " --encoding, or --errors replace"


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
    """The text of UTF-8 bytes, without a byte order mark; raises LiquidError as `decoded` does."""
    return "".join(decoded(cast(BufferedIOBase, BytesIO(data)), name, None, errors=errors))


def decoded(
    stream: BufferedIOBase, name: str, size: int | None, encoding: str | None = None, errors: str = "strict"
) -> Iterator[str]:
    """The text of a stream of bytes, without a byte order mark.

    Args:
        stream: the bytes.
        name: stands for the stream in the message of an error.
        size: bytes to read at a time; None: all at once.
        encoding: of the bytes; None is UTF-8.
        errors: "strict", or "replace": a wrong byte becomes U+FFFD.

    Raises:
        LiquidError: the stream is not text in this encoding. The message names the format, or the first wrong
            byte.
    """
    decoder = codecs.getincrementaldecoder(encoding or "utf-8")(errors)
    read, first, head = 0, True, b""
    while True:
        data = stream.read(-1 if size is None else size)
        head += data[: HEAD - len(head)]
        nul = data.find(b"\0") if encoding is None and errors == "strict" else -1
        waiting = len(decoder.getstate()[0])
        try:
            text = "" if nul >= 0 else decoder.decode(data, final=not data or size is None)
        except UnicodeDecodeError as error:
            place, byte = read - waiting + error.start, error.object[error.start]
            wrong = f"not {encoding or 'UTF-8'} text: 0x{byte:02x} at byte {place}"
            found = _format(head + stream.read(HEAD - len(head))) if encoding is None else None
            found = found or f"{wrong}; {CONVERT if encoding is None else 'give another'}{OR_OPTIONS}"
            raise LiquidError(f"{name}: {found}") from error
        if nul >= 0:
            found = _format(head + stream.read(HEAD - len(head)))
            raise LiquidError(
                f"{name}: {found or f'not a text file: there is a NUL byte at byte {read + nul}'}"
            )
        yield text.removeprefix("\ufeff") if first else text
        first, read = first and not text, read + len(data)
        if not data or size is None:
            return


def _format(head: bytes) -> str | None:
    """The format of a file that begins with `head`, and what to do with the file; None if unknown."""
    for magic, what in FORMATS:
        if head.startswith(magic):
            return f"not text but {what}"
    encoding = next((encoding for mark, encoding in BYTE_ORDER_MARKS if head.startswith(mark)), None)
    even, odd = head[::2], head[1::2]
    if encoding is None and len(head) > 3:  # ASCII without a byte order mark: every other byte is 0
        if all(even) and not any(odd):
            encoding = "UTF-16LE"
        elif all(odd) and not any(even):
            encoding = "UTF-16BE"
    if encoding is None:
        return None
    return f"{encoding} text, not UTF-8; convert it (iconv -f {encoding} -t UTF-8)"
