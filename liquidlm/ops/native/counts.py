"""Counts of contexts by the kernel of `counts.cpp`."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int, Int32
from torch import Tensor

from ..counts import ENTRIES, Counted
from .library import call


def count_contexts_native(
    ids: Int[Tensor, "b t"],
    start: Bool[Tensor, "b t"],
    real: Int[Tensor, " b"],
    context: Int[Tensor, "b n"],
    table: Int32[Tensor, "b l 16"] | None,
    training: Int32[Tensor, "p 16"] | None,
    orders: Sequence[int],
) -> Counted:
    """`count_contexts_reference`, with the rows divided among the threads."""
    rows, length = ids.shape
    levels = len(orders) * ((table is not None) + (training is not None))
    found = torch.zeros(rows, length, levels, ENTRIES, dtype=torch.int32)
    context, table = context.clone(), None if table is None else table.contiguous().clone()
    _run(ids, start, real, context, table, training, orders, found)
    return Counted(found, context, table)


def count_text_native(
    ids: Int[Tensor, " t"],
    start: Bool[Tensor, " t"],
    context: Int[Tensor, " n"],
    table: Int32[Tensor, "l 16"],
    orders: Sequence[int],
) -> None:
    """Count the tokens of a text into `table`, in place, and move `context` on, without finding anything.

    A start forgets the context alone.
    """
    one = (ids[None], start[None], torch.tensor([len(ids)]), context[None], table[None])
    _run(*one, None, orders, None, keeps=True)


def _run(
    ids: Tensor,
    start: Tensor,
    real: Tensor,
    context: Tensor,
    table: Tensor | None,
    training: Tensor | None,
    orders: Sequence[int],
    found: Tensor | None,
    keeps: bool = False,
) -> None:
    (rows, length), count = ids.shape, len(orders)
    work = torch.empty(rows, length + 1, count, dtype=torch.int64)
    inputs = (ids.long().contiguous(), start.to(torch.uint8).contiguous(), real.long().contiguous())
    tables = (table, training, torch.tensor(orders), work, found)
    lines = 0 if table is None else table.shape[1], 0 if training is None else len(training)
    sizes = (rows, length, context.shape[1], count, *lines, keeps, min(rows, torch.get_num_threads()))
    call("counts", *inputs, context, *tables, *sizes)
