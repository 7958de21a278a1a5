"""Compressors on the texts of `benchmarks.quality`: bits per byte of the same held-out text.

    python -m benchmarks.compressors [--text wikitext-2 novels-en …]

A compressor reads the whole training text first, then the held-out rows, from which it learns too.
The first tokens of a row give context and are not judged, as for the models. PPMd's order is chosen on the
validation rows; those of tinyshakespeare are its test rows. xz is there for scale: its cost is what the
judged text adds to the compressed training text. Writes the section "compressors" of results/quality.json.
"""

import argparse
import contextlib
import lzma
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.machine import add_results, machine
from benchmarks.texts import TEXTS, HeldOut, Text, load
from liquidlm.runtime.memory import peak_memory
from liquidlm.text.batches import IGNORED

COMPARED = ["novels-en", "wikitext-2", "tinystories", "tinyshakespeare"]
ORDERS = (4, 6, 8, 10, 12, 16)
"""Longest contexts of PPMd that are tried."""
MEMORY = 1 << 30
"""Bytes that PPMd may use. When they are full it forgets everything, so that they are ample."""
DICTIONARY = 1 << 27
"""Bytes that xz looks back."""


class Row(NamedTuple):
    """A held-out row in bytes: what gives context, and what is judged."""

    context: bytes
    judged: bytes


class Cost(NamedTuple):
    """What a compressor needed for the held-out text.

    Attributes:
        bits: of the judged text in all.
        seconds: of CPU time, the training text included.
        memory_bytes: that it held at most.
    """

    bits: float
    seconds: float
    memory_bytes: int


def ppmd(train: bytes, rows: Iterable[Row], order: int) -> float:
    """Bits of the judged text by PPMd var.H after `train`, to within two bytes for each row."""
    from pyppmd import Ppmd7Encoder

    encoder = Ppmd7Encoder(order, MEMORY)
    encoder.encode(train)
    total = 0
    for row in rows:
        encoder.encode(row.context)
        total += len(encoder.encode(row.judged))
    return 8.0 * total


def xz(train: bytes, rows: Iterable[Row]) -> float:
    """Bits that the judged text adds to the training text."""
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": DICTIONARY}]

    def size(data: bytes) -> int:
        return len(lzma.compress(data, lzma.FORMAT_RAW, filters=filters))

    return 8.0 * (size(train + b"".join(row.judged for row in rows)) - size(train))


def training_bytes(text: Text) -> bytes:
    """The training text; documents end in a line feed."""
    return text_of(text, text.train.tokens[:])


def rows_of(text: Text, held_out: HeldOut) -> list[Row]:
    """The held-out rows in bytes."""
    rows = []
    for ids, targets in zip(held_out.ids.numpy(), held_out.targets.numpy(), strict=True):
        first = int(np.flatnonzero(targets != IGNORED)[0])
        rows.append(Row(text_of(text, ids[: first + 1]), text_of(text, targets[targets != IGNORED])))
    return rows


def text_of(text: Text, ids: np.ndarray) -> bytes:
    """The bytes of tokens; a line feed for the end of a document, nothing for its beginning."""
    tokenizer = text.tokenizer
    table = [tokenizer.token_bytes(token) for token in range(tokenizer.vocab_size)]
    for name in ("bos", "pad", "unk", "mask"):
        table[getattr(tokenizer, f"{name}_token_id")] = b""
    table[tokenizer.eos_token_id] = b"\n"
    return b"".join(map(table.__getitem__, ids.tolist()))


def measured(name: str, held_out: str, order: int | None) -> Cost:
    """One compressor on one text, alone in this process."""
    text = load(name)
    train, rows = training_bytes(text), rows_of(text, getattr(text, held_out))
    forget_peak()
    before, begin = peak_memory(), time.process_time()
    bits = xz(train, rows) if order is None else ppmd(train, rows, order)
    return Cost(bits, time.process_time() - begin, max(0, peak_memory() - before))


def forget_peak() -> None:
    """Let this process' peak of memory begin again at 0, where the system can; else the figure is too low."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def alone(function: Callable[..., Cost], *given: object) -> Cost:
    """The result of a function in a process of its own, whose memory is its own."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(function, *given).result()


def compare(name: str, orders: Iterable[int] = ORDERS) -> dict[str, dict[str, Any]]:
    """{"ppmd" and "xz": bits per byte of the test rows, seconds and memory}; PPMd with the order that was
    best on the validation rows."""
    text = load(name)
    valid = {order: alone(measured, name, "valid", order).bits / text.valid.text_bytes for order in orders}
    best = min(valid, key=valid.__getitem__)
    found: dict[str, dict[str, Any]] = {}
    for compressor, order in (("ppmd", best), ("xz", None)):
        cost = alone(measured, name, "test", order)
        found[compressor] = {
            "bits_per_byte": cost.bits / text.test.text_bytes,
            "seconds": cost.seconds,
            "memory_bytes": cost.memory_bytes,
            "learns_on": True,
            "commit": machine()["commit"],
        }
    found["ppmd"] |= {"order": best, "valid": valid}
    return found


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="compressors", description=__doc__)
    parser.add_argument("--text", nargs="+", default=COMPARED, choices=list(TEXTS))
    given = parser.parse_args(argv)
    for name in given.text:
        found = compare(name)
        add_results("quality", "compressors", name, found)
        for compressor, figures in found.items():
            print(
                f"{name:16} {compressor:5} {figures['bits_per_byte']:.4f} bits per byte,"
                f" {figures['seconds']:.1f} s of CPU time, {figures['memory_bytes'] / 1e6:,.0f} MB"
            )


if __name__ == "__main__":
    main()
