"""What followed the last n tokens, counted in hash tables of fixed size.

A table has lines of `ENTRIES` entries in int32. An entry is 0 (free), or

    check · 2²¹ + token · 2⁵ + count,    check < 2¹¹, token < 2¹⁶, count < 2⁵:

`token` followed a context with this check `count` times. The hash of a context gives its line and its check.
Two contexts with the same line and check are taken for one. The entries of a line are in the order of their
last use, the newest first. A token is counted after its contexts from the shortest up to the first that is
new: a longer context is counted only where the shorter one was met before, as in PPM (Cleary & Witten 1984,
"Data Compression Using Adaptive Coding and Partial String Matching"). Most long contexts come once, and would
push others out. All arithmetic is in integers: the results of every form are equal to the bit.

Symbols: B rows, T tokens, N longest order, O orders, L lines, K levels (O, or 2 O with both tables).
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int, Int32
from torch import Tensor

ENTRIES = 16
"""Entries of a line: 64 bytes, which a processor fetches at once."""
MOST, LOW = (1 << 5) - 1, (1 << 21) - 1
"""The largest count, and the largest entry without its check."""
CHECKS = 1 << 11
FACTOR, MIXER, WORD = 0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93, (1 << 64) - 1
"""Odd constants of the hash (Steele et al. 2014, "Fast Splittable Pseudorandom Number Generators"), and the
mask of 64 bits."""


class Counted(NamedTuple):
    """What `count_contexts` returns.

    Attributes:
        found: after each token, per level, the entries of its contexts without their check,
            token · 2⁵ + count, the last used first; 0 where there is none.
        context: the last tokens after the events, the newest last, each as id + 1; 0 before a document.
        table: the counts after the events; None if none was given.
    """

    found: Int32[Tensor, "b t k 16"]
    context: Int[Tensor, "b n"]
    table: Int32[Tensor, "b l 16"] | None


def count_contexts_reference(
    ids: Int[Tensor, "b t"],
    start: Bool[Tensor, "b t"],
    real: Int[Tensor, " b"],
    context: Int[Tensor, "b n"],
    table: Int32[Tensor, "b l 16"] | None,
    training: Int32[Tensor, "p 16"] | None,
    orders: Sequence[int],
) -> Counted:
    """Count each token after its contexts, then find what followed the contexts that end with it.

    A start forgets the row's table and context, and its token is counted after nothing. A full count (31)
    halves all counts of its context. A token that is new in a full line takes the place of the least counted
    entry of the line's older half, of the oldest if several are.

    Args:
        ids: below 2¹⁶.
        start: where a document starts.
        real: how many events of each row are not padding, which is at the end.
        context: the last N tokens before, as in `Counted`.
        table: the counts of each row; L is a power of 2. Not changed.
        training: counts of another text that all rows read; at each order its level is before the table's.
        orders: the lengths n of the contexts, rising; N is the last.
    """
    length, levels = ids.shape[1], len(orders) * ((table is not None) + (training is not None))
    found = torch.zeros(len(ids), length, levels, ENTRIES, dtype=torch.int32)
    context = context.clone()
    table = None if table is None else table.clone()
    for row in range(len(ids)):
        last = context[row].tolist()
        for t in range(int(real[row])):
            token = int(ids[row, t])
            if start[row, t]:
                last = [0] * len(last)
                if table is not None:
                    table[row] = 0
            elif table is not None:
                _count_after_contexts(table[row], hashes(last, orders), token)
            last = [*last[1:], token + 1]
            tables = [one for one in (training, None if table is None else table[row]) if one is not None]
            entries = [_find(one, value) for value in hashes(last, orders) for one in tables]
            found[row, t] = torch.tensor(entries, dtype=torch.int32)
        context[row] = torch.tensor(last)
    return Counted(found, context, table)


def count_text_reference(
    ids: Int[Tensor, " t"],
    start: Bool[Tensor, " t"],
    context: Int[Tensor, " n"],
    table: Int32[Tensor, "l 16"],
    orders: Sequence[int],
) -> None:
    """Count the tokens of documents into `table`, and move `context` on, both in place.

    As in `count_contexts_reference`, but a start forgets the context alone, and nothing is looked up.
    """
    last = context.tolist()
    for token, starts in zip(ids.tolist(), start.tolist(), strict=True):
        if starts:
            last = [0] * len(last)
        else:
            _count_after_contexts(table, hashes(last, orders), token)
        last = [*last[1:], token + 1]
    context.copy_(torch.tensor(last))


def hashes(last: Sequence[int], orders: Sequence[int]) -> list[int]:
    """A hash of 64 bits of the last n tokens, for each order n; `last` has the newest token at its end."""
    value, found = 0, []
    for n in range(1, orders[-1] + 1):
        value = (value + last[-n] + 1) * FACTOR & WORD
        value ^= value >> 29
        if n in orders:
            mixed = (value + n) * MIXER & WORD
            found.append(mixed ^ mixed >> 32)
    return found


def _place(table: Tensor, value: int) -> tuple[int, int]:
    """The line of a context, and its check."""
    return (value >> 32) & (len(table) - 1), value % CHECKS


def _entries(table: Tensor, line: int) -> list[int]:
    return [entry & 0xFFFFFFFF for entry in table[line].tolist()]


def _find(table: Tensor, value: int) -> list[int]:
    line, check = _place(table, value)
    entries = _entries(table, line)
    return [entry & LOW if entry // (LOW + 1) == check and entry & MOST else 0 for entry in entries]


def _count_after_contexts(table: Tensor, values: Sequence[int], token: int) -> None:
    """Up to the first context that the table does not have."""
    for value in values:
        known = any(_find(table, value))
        _count(table, value, token)
        if not known:
            return


def _count(table: Tensor, value: int, token: int) -> None:
    line, check = _place(table, value)
    entries, key = _entries(table, line), check * (LOW + 1) + token * (MOST + 1)
    slot = next(
        (i for i, entry in enumerate(entries) if entry & MOST and entry - (entry & MOST) == key), None
    )
    if slot is None:
        older = range(ENTRIES - 1, ENTRIES // 2 - 1, -1)
        slot, entry = min(older, key=lambda i: entries[i] & MOST), key + 1
    else:
        if entries[slot] & MOST == MOST:
            same = (i for i, entry in enumerate(entries) if entry // (LOW + 1) == check and entry & MOST)
            for i in same:
                entries[i] -= (entries[i] & MOST) // 2
        entry = entries[slot] + 1
    entries = [entry, *entries[:slot], *entries[slot + 1 :]]
    signed = [entry - (1 << 32) if entry >> 31 else entry for entry in entries]
    table[line] = torch.tensor(signed, dtype=torch.int32)
