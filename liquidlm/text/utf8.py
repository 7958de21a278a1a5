"""Bytes ▶ text: UTF-8, with or without its mark; anything else is named, with what to do."""

import codecs
from collections.abc import Iterator
from io import BufferedIOBase, BytesIO
from typing import cast

from ..errors import LiquidError

HEAD = 64
"""Bytes at the beginning by which a file is known."""
MARKS = (
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


def decoded(stream: BufferedIOBase, name: str, size: int | None) -> Iterator[str]:
    """The text of a stream of UTF-8 bytes, `size` bytes at a time, without its byte order mark.

    Raises:
        LiquidError: it is no UTF-8 text; what it is instead, or which byte is not of a text.
    """
    decoder, read, first, head = codecs.getincrementaldecoder("utf-8")(), 0, True, b""
    while True:
        data = stream.read(-1 if size is None else size)
        head += data[: HEAD - len(head)]
        nul, waiting = data.find(b"\0"), len(decoder.getstate()[0])
        try:
            text = "" if nul >= 0 else decoder.decode(data, final=not data or size is None)
        except UnicodeDecodeError as error:
            place, byte = read - waiting + error.start, error.object[error.start]
            found = _known(head + stream.read(HEAD - len(head))) or (
                f"not UTF-8 text: 0x{byte:02x} at byte {place}; convert it to UTF-8"
                " (if it is Latin-1: iconv -f LATIN1 -t UTF-8)"
            )
            raise LiquidError(f"{name}: {found}") from error
        if nul >= 0:
            found = _known(head + stream.read(HEAD - len(head)))
            raise LiquidError(
                f"{name}: {found or f'not a text file: there is a NUL byte at byte {read + nul}'}"
            )
        yield text.removeprefix("\ufeff") if first else text
        first, read = first and not text, read + len(data)
        if not data or size is None:
            return


def decode(data: bytes, name: str) -> str:
    """The text of UTF-8 bytes."""
    return "".join(decoded(cast(BufferedIOBase, BytesIO(data)), name, None))


def _known(head: bytes) -> str | None:
    """What a file that begins so is, and what to do with it."""
    for magic, what in FORMATS:
        if head.startswith(magic):
            return f"not text but {what}"
    encoding = next((encoding for mark, encoding in MARKS if head.startswith(mark)), None)
    even, odd = head[::2], head[1::2]
    if encoding is None and len(head) > 3:  # mostly ASCII, without a mark: every other byte is 0
        if all(even) and not any(odd):
            encoding = "UTF-16LE"
        elif all(odd) and not any(even):
            encoding = "UTF-16BE"
    if encoding is None:
        return None
    return f"{encoding} text, not UTF-8; convert it (iconv -f {encoding} -t UTF-8)"
