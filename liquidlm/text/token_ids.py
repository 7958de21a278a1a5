"""Token ids ▶ text: rows of ids are checked, and one id at a time is decoded."""

import codecs
import operator
from collections.abc import Sequence
from typing import SupportsIndex

import numpy as np
from jaxtyping import Int, Integer
from torch import Tensor

from ..errors import LiquidError

IdRow = Sequence[int] | Integer[np.ndarray, " n"] | Int[Tensor, " n"]
IdRows = Sequence[IdRow] | Integer[np.ndarray, "b n"] | Int[Tensor, "b n"]


class StreamDecoder:
    """Text from token ids, one at a time, at constant cost per token.

    A token may end inside a UTF-8 character. `push` holds such bytes back until the character is complete, so
    the pieces can be printed as they come. All pieces and `flush()` together equal `decode` of all ids.

    >>> decoder = StreamDecoder([b"a", b"\\xc3", b"\\xb1"])
    >>> [decoder.push(token) for token in (0, 1, 2)]
    ['a', '', 'ñ']

    Args:
        token_bytes: the UTF-8 bytes of each token, by its id.
    """

    def __init__(self, token_bytes: Sequence[bytes]) -> None:
        self._token_bytes = token_bytes
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token_id: SupportsIndex) -> str:
        """The characters that this token completes, often none.

        Raises:
            LiquidError: the id is outside the vocabulary.
        """
        index = operator.index(token_id)
        if not 0 <= index < len(self._token_bytes):
            raise _outside(index, len(self._token_bytes))
        return self._utf8.decode(self._token_bytes[index])

    def flush(self) -> str:
        """The rest: U+FFFD if the last character is incomplete, otherwise nothing."""
        return self._utf8.decode(b"", final=True)


def checked_ids(ids: object, vocab_size: int) -> list[int]:
    """One row of ids as plain integers.

    Raises:
        LiquidError: `ids` is not one row of integers, or an id is outside the vocabulary.
    """
    try:
        row = np.asarray(ids.cpu() if isinstance(ids, Tensor) else ids)
    except ValueError:  # rows of different lengths
        row = np.empty((0, 0))
    if row.ndim != 1 or (row.size and row.dtype.kind not in "iu"):
        raise LiquidError("decode takes one row of integer ids; use batch_decode for several rows")
    outside = row[(row < 0) | (row >= vocab_size)]
    if outside.size:
        raise _outside(outside[0], vocab_size)
    return [int(index) for index in row]


def _outside(token_id: SupportsIndex, vocab_size: int) -> LiquidError:
    """The error for an id that is not a token's."""
    return LiquidError(
        f"token id {token_id} is outside the vocabulary of {vocab_size}; decode with the tokenizer that the"
        " model was trained with"
    )
