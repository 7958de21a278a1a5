"""States after what was read before, so that a prompt that begins alike is not read again."""

import hashlib
from collections import OrderedDict
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int64, Num
from torch import Tensor

from ..nn.state import CellState

GRID = 512
"""Prompts are read in pieces that end at multiples of so many tokens, and at their end."""
SNAPSHOTS = 64
"""Of one prompt, about; its last two whatever its length."""


class Snapshot(NamedTuple):
    """The state after the first `length` tokens of a prompt, one row.

    Attributes:
        logits, features: of what comes next (`LiquidOutput`), at a prompt's end; None within it.
    """

    length: int
    states: list[CellState]
    logits: Float[Tensor, "1 v"] | None = None
    features: Float[Tensor, "1 h"] | None = None

    @property
    def nbytes(self) -> int:
        parts = [part for state in self.states for part in state if part is not None]
        parts += [part for part in (self.logits, self.features) if part is not None]
        return sum(part.numel() * part.element_size() for part in parts)

    def owned(self) -> "Snapshot":
        """A copy that keeps nothing else alive: a state may be a view into a larger tensor."""
        logits, features = (None if part is None else part.clone() for part in (self.logits, self.features))
        return Snapshot(self.length, [state.map(Tensor.clone) for state in self.states], logits, features)


class Prompt:
    """Tokens to read, and maybe their times, with the keys of their prefixes.

    Attributes:
        pieces: key of the first GRID, 2 GRID, … tokens.
        whole: key of all of them together, as the end of a prompt.
    """

    def __init__(self, ids: Int64[np.ndarray, " t"], times: Num[np.ndarray, " t"] | None = None):
        times = None if times is None else np.asarray(times, np.float64)
        self.ids, self.times, self.pieces = ids, times, list[bytes]()
        digest = hashlib.sha256(b"" if times is None else b"times")
        for first in range(0, len(ids), GRID):
            piece = slice(first, first + GRID)
            digest.update(ids[piece].tobytes())
            if times is not None:
                digest.update(times[piece].tobytes())
            if first + GRID <= len(ids):
                self.pieces.append(digest.digest())
        digest.update(b"end")
        self.whole = digest.digest()

    @property
    def readable(self) -> int:
        """How many pieces may be left out, so that one token at least is read, and says what comes next."""
        return (len(self.ids) - 1) // GRID

    def keys(self, length: int) -> list[bytes]:
        """Of the state after so many tokens, where a piece ends, if it is kept: evenly, and at the end."""
        total = len(self.ids)
        stride = -(-total // (GRID * SNAPSHOTS))
        number, rest = divmod(length, GRID)
        even = not rest and (number % stride == 0 or total - length < GRID)
        keys = [self.pieces[number - 1]] if even else []
        return [*keys, self.whole] if length == total else keys


class PrefixCache:
    """Snapshots by what was read, tokens and times; the ones not used for longest go first.

    Going on from one gives the same bits as reading from the start does, since every prompt is read in the
    same pieces: one within a prompt stands at a multiple of GRID, and one at a prompt's end, where a piece
    may be shorter, serves the very same prompt only.
    """

    def __init__(self, limit_bytes: int):
        self.limit_bytes, self.nbytes = limit_bytes, 0
        self._snapshots: OrderedDict[bytes, Snapshot] = OrderedDict()

    def __len__(self) -> int:
        return len(self._snapshots)

    def longest(self, prompt: "Prompt") -> Snapshot | None:
        """The one after most of a prompt's tokens."""
        for key in [prompt.whole, *reversed(prompt.pieces[: prompt.readable])]:
            if (found := self._snapshots.get(key)) is not None:
                self._snapshots.move_to_end(key)
                return found
        return None

    def keep(self, key: bytes, snapshot: Snapshot) -> None:
        if key in self._snapshots:
            self._snapshots.move_to_end(key)
            return
        self._snapshots[key] = snapshot = snapshot.owned()
        self.nbytes += snapshot.nbytes
        while self.nbytes > self.limit_bytes:
            self.nbytes -= self._snapshots.popitem(last=False)[1].nbytes
