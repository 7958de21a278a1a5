"""The sizes that a `CountMemory` can have. Checking them needs no torch."""

from collections.abc import Sequence

from ..errors import LiquidError

TOKENS = 1 << 16
"""Token ids that fit into an entry of a table."""
MOST_LINES = 1 << 26
"""Lines of the largest table: 4 GiB."""


def check_tables(orders: Sequence[int], lines: int, training_lines: int) -> None:
    """Check the sizes of a `CountMemory`.

    Raises:
        LiquidError: orders that do not rise from at least 1, a size that is not a power of 2, or no table.
    """
    if not orders or min(orders) < 1 or sorted(set(orders)) != list(orders):
        raise LiquidError(
            f"the orders of counts must rise from at least 1, as 1, 2, 3 do, not {list(orders)}"
        )
    for name, size in (("lines", lines), ("training_lines", training_lines)):
        if size < 0 or size & (size - 1) or size > MOST_LINES:
            raise LiquidError(f"{name} of counts must be 0 or a power of 2 up to 2^26, not {size}")
    if not lines and not training_lines:
        raise LiquidError("counts need a table: give lines or training_lines")


def check_vocabulary(vocab_size: int) -> None:
    """Check that each token id fits into an entry.

    Raises:
        LiquidError: a token id does not fit into an entry.
    """
    if vocab_size > TOKENS:
        raise LiquidError(f"counts take a vocabulary of at most {TOKENS:,}, not {vocab_size:,}")
