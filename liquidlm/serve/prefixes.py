"""The prefix cache: states after prompts and texts. A prompt that begins like one starts there."""

import hashlib
from collections import Counter, OrderedDict
from collections.abc import Sequence
from copy import copy
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int64, Num
from torch import Tensor

from ..inference.sampling import PENALISED
from ..nn.state import CellState, LiquidCache

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

    @property
    def last_time(self) -> float:
        """The time of the last token."""
        return float(LiquidCache.of_states(self.states, self.length).last_time[0])

    def owned(self) -> "Snapshot":
        """A copy. A state may be a view of a larger tensor, which the copy does not keep in memory."""
        logits, features = (None if part is None else part.clone() for part in (self.logits, self.features))
        return Snapshot(self.length, [state.map(Tensor.clone) for state in self.states], logits, features)


Key = tuple[bytes, bytes]
"""Of the beginning of a prompt: SHA-256 of its whole blocks, and the bytes of the tokens after them."""


class Base(NamedTuple):
    """What was read before a prompt.

    Attributes:
        snapshot: the state after it, with logits; its length counts all tokens.
        identity: SHA-256 of all tokens.
        tail: the last tokens, for the repetition penalty.
    """

    snapshot: Snapshot
    identity: bytes
    tail: Int64[np.ndarray, " n"]


class HashedPrompt:
    """Tokens of a prompt, their times if it has them, and hashes of its prefixes.

    Attributes:
        ids: the tokens.
        times: of the tokens; None without times.
        base: what was read before the prompt; None for a prompt that begins with `<s>`.
        added: how many tokens the server put before those of the request: `<s>`, or none.
        digests: SHA-256 of the first 0, BLOCK, 2 BLOCK, … tokens with their times.
    """

    def __init__(
        self,
        ids: Int64[np.ndarray, " t"],
        times: Num[np.ndarray, " t"] | None = None,
        base: Base | None = None,
        added: int = 0,
    ):
        self.added = added
        self.times, self.base = None if times is None else np.asarray(times, np.float64), base
        self._digest = hashlib.sha256(b"" if times is None else b"times")
        self._digest.update(b"" if base is None else base.identity)
        self.ids, self.digests = ids, [self._digest.digest()]
        self._hash_blocks()

    @property
    def before(self) -> int:
        """Number of tokens before the prompt."""
        return 0 if self.base is None else self.base.snapshot.length

    @property
    def length(self) -> int:
        """Number of all tokens."""
        return self.before + len(self.ids)

    @property
    def tail(self) -> Int64[np.ndarray, " n"]:
        """The last tokens, as many as the repetition penalty counts."""
        every = self.ids if self.base is None else np.concatenate([self.base.tail, self.ids])
        return every[-PENALISED:]

    @property
    def identity(self) -> bytes:
        """SHA-256 of all tokens."""
        return hashlib.sha256(b"".join(self.key(len(self.ids)))).digest()

    def _hash_blocks(self) -> None:
        """Hash the whole blocks that are not hashed yet."""
        for number in range(len(self.digests), len(self.ids) // BLOCK + 1):
            self._digest.update(self._bytes((number - 1) * BLOCK, number * BLOCK))
            self.digests.append(self._digest.digest())

    def _bytes(self, first: int, last: int) -> bytes:
        times = b"" if self.times is None else self.times[first:last].tobytes()
        return self.ids[first:last].tobytes() + times

    def extended(self, ids: Sequence[int]) -> "HashedPrompt":
        """A prompt without times, and more tokens after it."""
        longer = copy(self)
        longer._digest, longer.digests = self._digest.copy(), [*self.digests]
        longer.ids = np.concatenate([self.ids, np.asarray(ids, np.int64)])
        longer._hash_blocks()
        return longer

    def key(self, length: int) -> Key:
        """The key of the first `length` tokens."""
        whole = length // BLOCK
        return self.digests[whole], self._bytes(whole * BLOCK, length)

    def is_kept(self, length: int) -> bool:
        """Whether the state after `length` tokens is kept: after blocks at even distances, after the last
        block, and at the end."""
        total = len(self.ids)
        stride = -(-total // (BLOCK * SNAPSHOTS))
        number, rest = divmod(length, BLOCK)
        return length == total or (not rest and (number % stride == 0 or total - length < BLOCK))


class PrefixCache:
    """A least-recently-used cache of snapshots, by the tokens and times that were read.

    A snapshot gives the same bits as reading from the start.

    Args:
        limit_bytes: memory for snapshots.
        anywhere: whether reading gives the same bits however the tokens are divided into calls. If not, every
            prompt must be read in the same blocks: a snapshot that is not after a whole block serves the same
            prompt only.

    Attributes:
        nbytes: memory in use.
    """

    def __init__(self, limit_bytes: int, anywhere: bool = True):
        self.limit_bytes, self.anywhere, self.nbytes = limit_bytes, anywhere, 0
        self._snapshots: OrderedDict[Key, Snapshot] = OrderedDict()
        self._lengths: dict[bytes, Counter[int]] = {}
        """For each digest of whole blocks the lengths of its snapshots."""

    def __len__(self) -> int:
        return len(self._snapshots)

    def longest(self, prompt: HashedPrompt, beyond: int = -1) -> Snapshot | None:
        """The snapshot after the longest prefix of a prompt, of more than `beyond` tokens; None if there is
        none."""
        for digest in reversed(prompt.digests[max(beyond, 0) // BLOCK :]):
            lengths = [n for n in self._lengths.get(digest, ()) if beyond < n <= len(prompt.ids)]
            for length in sorted(lengths, reverse=True):
                found = self._snapshots.get(prompt.key(length))
                if found is not None and self._serves(found, prompt):
                    self._snapshots.move_to_end(prompt.key(length))
                    return found
        return None

    def _serves(self, found: Snapshot, prompt: HashedPrompt) -> bool:
        """Whether reading may go on there. Without logits at least one token must be read."""
        if found.length == len(prompt.ids):
            return found.logits is not None
        return self.anywhere or found.length % BLOCK == 0

    def keep(self, prompt: HashedPrompt, snapshot: Snapshot) -> None:
        """Add a copy of a snapshot within a prompt, and drop the least recently used ones over the limit."""
        key = prompt.key(snapshot.length)
        before = self._snapshots.get(key)
        if before is not None and (before.logits is not None or snapshot.logits is None):
            self._snapshots.move_to_end(key)
            return
        if before is not None:
            self._drop(key)
        self._snapshots[key] = snapshot = snapshot.owned()
        self._lengths.setdefault(key[0], Counter())[snapshot.length] += 1
        self.nbytes += snapshot.nbytes + len(key[1])
        while self.nbytes > self.limit_bytes:
            self._drop(next(iter(self._snapshots)))

    def _drop(self, key: Key) -> None:
        snapshot = self._snapshots.pop(key)
        self.nbytes -= snapshot.nbytes + len(key[1])
        lengths = self._lengths[key[0]]
        lengths[snapshot.length] -= 1
        if not lengths[snapshot.length]:
            del lengths[snapshot.length]
        if not lengths:
            del self._lengths[key[0]]
