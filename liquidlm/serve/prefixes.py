"""The prefix cache: states after the beginnings of prompts. A prompt with the same beginning starts there."""

import hashlib
from collections import OrderedDict
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int64, Num
from torch import Tensor

from ..nn.state import CellState

BLOCK = 512
"""Prompts are read in blocks of this many tokens. The last block may be shorter."""
SNAPSHOTS = 64
"""The cache keeps about this many states of one prompt, and always its last two."""


class Snapshot(NamedTuple):
    """The state after the first `length` tokens of a prompt, one row.

    Attributes:
        length: number of tokens read.
        states: of the blocks of layers.
        logits, features: for the next token (`LiquidOutput`), at the end of a prompt; else None.
    """

    length: int
    states: list[CellState]
    logits: Float[Tensor, "1 v"] | None = None
    features: Float[Tensor, "1 h"] | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        parts = [part for state in self.states for part in state if part is not None]
        parts += [part for part in (self.logits, self.features) if part is not None]
        return sum(part.numel() * part.element_size() for part in parts)

    def owned(self) -> "Snapshot":
        """A copy. A state may be a view of a larger tensor, which the copy does not keep in memory."""
        logits, features = (None if part is None else part.clone() for part in (self.logits, self.features))
        return Snapshot(self.length, [state.map(Tensor.clone) for state in self.states], logits, features)


class HashedPrompt:
    """Tokens of a prompt, their times if it has them, and hashes of its prefixes.

    Attributes:
        ids: the tokens.
        times: of the tokens; None without times.
        block_keys: SHA-256 of the first BLOCK, 2 BLOCK, … tokens with their times.
        end_key: SHA-256 of the whole prompt; differs from the keys of blocks.
    """

    def __init__(self, ids: Int64[np.ndarray, " t"], times: Num[np.ndarray, " t"] | None = None):
        times = None if times is None else np.asarray(times, np.float64)
        self.ids, self.times, self.block_keys = ids, times, list[bytes]()
        digest = hashlib.sha256(b"" if times is None else b"times")
        for first in range(0, len(ids), BLOCK):
            block = slice(first, first + BLOCK)
            digest.update(ids[block].tobytes())
            if times is not None:
                digest.update(times[block].tobytes())
            if first + BLOCK <= len(ids):
                self.block_keys.append(digest.digest())
        digest.update(b"end")
        self.end_key = digest.digest()

    @property
    def skippable_blocks(self) -> int:
        """How many blocks may come from the cache. At least one token must be read, to predict the next."""
        return (len(self.ids) - 1) // BLOCK

    def keys(self, length: int) -> list[bytes]:
        """Keys under which the state after `length` tokens is kept; [] if it is not kept.

        States are kept after blocks at even distances, after the last blocks, and at the end.
        """
        total = len(self.ids)
        stride = -(-total // (BLOCK * SNAPSHOTS))
        number, rest = divmod(length, BLOCK)
        even = not rest and (number % stride == 0 or total - length < BLOCK)
        keys = [self.block_keys[number - 1]] if even else []
        return [*keys, self.end_key] if length == total else keys


class PrefixCache:
    """A least-recently-used cache of snapshots, by the tokens and times that were read.

    A snapshot gives the same bits as reading from the start, because every prompt is read in the same blocks.
    A snapshot within a prompt is at a multiple of BLOCK. A snapshot at the end of a prompt, where the last
    block may be shorter, serves the same prompt only.

    Args:
        limit_bytes: memory for snapshots.

    Attributes:
        nbytes: memory in use.
    """

    def __init__(self, limit_bytes: int):
        self.limit_bytes, self.nbytes = limit_bytes, 0
        self._snapshots: OrderedDict[bytes, Snapshot] = OrderedDict()

    def __len__(self) -> int:
        return len(self._snapshots)

    def longest(self, prompt: HashedPrompt) -> Snapshot | None:
        """The snapshot after the longest prefix of a prompt; None if there is none."""
        for key in [prompt.end_key, *reversed(prompt.block_keys[: prompt.skippable_blocks])]:
            if (found := self._snapshots.get(key)) is not None:
                self._snapshots.move_to_end(key)
                return found
        return None

    def keep(self, key: bytes, snapshot: Snapshot) -> None:
        """Add a copy of a snapshot, and drop the least recently used ones over the limit."""
        if key in self._snapshots:
            self._snapshots.move_to_end(key)
            return
        self._snapshots[key] = snapshot = snapshot.owned()
        self.nbytes += snapshot.nbytes
        while self.nbytes > self.limit_bytes:
            self.nbytes -= self._snapshots.popitem(last=False)[1].nbytes
