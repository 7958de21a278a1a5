"""The fields of `LiquidConfig`: names, types, defaults and ranges. `LiquidConfig` explains each one.

They are apart from it because its imports take seconds, and a command checks its options first.
"""

import math
from dataclasses import dataclass
from typing import get_args

from ..errors import LiquidError
from ..nn.ode_methods import check_method
from ..nn.table_sizes import check_tables, check_vocabulary
from .mixers import MIXERS

LETTERS = 512
"""The tokens of a vocabulary of at most this size count as letters (as bytes do), those of a larger one as
words."""
NGRAM_ROWS = 16384
"""Default rows of n-grams where tokens are letters: the n-grams stand for words. Where tokens are words,
n-grams learn the training text by heart (docs/experiments.md), so there are none."""


@dataclass
class Sizes:
    """The fields of `LiquidConfig`.

    Example:
        >>> Sizes(hidden_size=0).complete()
        Traceback (most recent call last):
            ...
        liquidlm.errors.LiquidError: hidden_size must be at least 1, not 0
    """

    vocab_size: int = 32000
    embedding_dim: int = 512
    latent_dim: int = 128
    hidden_size: int = 256
    num_hidden_layers: int = 4
    mixer_types: list[str] | None = None
    intermediate_size: int | None = None
    num_heads: int | None = None
    num_writes: int = 1
    ngram_rows: int | None = None
    ngram_dim: int | None = None
    ngram_max: int = 4
    count_orders: list[int] | None = None
    count_lines: int = 4096
    count_training_lines: int = 0
    conv_width: int = 4
    chunk_size: int = 64
    loss_chunk: int = 2048
    flow_hidden_dim: int = 128
    num_flows: int = 4
    ode_decay: float | int = 0.1
    ode_adaptive: float | int = 0.01
    ode_method: str = "rk4"
    ode_steps: int = 4
    flow_loss_weight: float | int = 0.1
    time_scale: float | int = 1.0
    memory_scale: float | int | None = None
    time_components: int = 0
    time_resolution: float | int = 0.0
    dropout_rate: float | int = 0.1
    norm_eps: float | int = 1e-6
    use_cache: bool = True
    bos_token_id: int | None = 0
    pad_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2
    tie_word_embeddings: bool = False

    def complete(self) -> None:
        """Fill in the defaults that depend on other fields, and check the ranges.

        Whole numbers in fields for floats become floats.

        Raises:
            LiquidError: a value is out of its range.
        """
        self._fill_in()
        self._whole_floats()
        self._check_counts()
        self._check_numbers()
        self._check_mixers()
        check_method(self.ode_method)
        if self.count_orders:
            check_tables(self.count_orders, self.count_lines, self.count_training_lines)
            check_vocabulary(self.vocab_size)

    def _fill_in(self):
        """Fill in the defaults that depend on other fields."""
        if self.mixer_types is None and self.num_hidden_layers > 0:
            self.mixer_types = ["memory" if i % 4 == 1 else "time" for i in range(self.num_hidden_layers)]
        if self.ngram_rows is None:
            self.ngram_rows = NGRAM_ROWS if self.vocab_size <= LETTERS else 0
        if self.intermediate_size is None:
            self.intermediate_size = math.ceil(self.hidden_size * (1.5 if self.ngram_rows else 3) / 32) * 32
        if self.ngram_dim is None:
            self.ngram_dim = math.ceil(self.hidden_size * 3 / 32 / 8) * 8

    def _whole_floats(self):
        """Turn whole numbers in fields for floats into floats."""
        for name in FLOATS:
            if isinstance(value := getattr(self, name), int):
                setattr(self, name, float(value) if abs(value) < 2**1023 else math.inf)

    def _check_counts(self):
        for name in (
            *("vocab_size", "hidden_size", "embedding_dim", "latent_dim", "num_hidden_layers", "conv_width"),
            *("num_writes", "intermediate_size", "chunk_size", "loss_chunk", "flow_hidden_dim", "num_flows"),
            *("ode_steps", "ngram_dim"),
        ):
            if (size := getattr(self, name)) is not None and size < 1:
                raise LiquidError(f"{name} must be at least 1, not {size}")
        if (self.ngram_rows or 0) < 0 or self.ngram_max < 2:
            raise LiquidError(
                f"ngram_rows must be at least 0 and ngram_max at least 2, not {self.ngram_rows} and"
                f" {self.ngram_max}"
            )
        if self.latent_dim > self.embedding_dim:
            raise LiquidError(
                f"latent_dim ({self.latent_dim}) must be at most embedding_dim ({self.embedding_dim})"
            )
        if self.tie_word_embeddings and self.embedding_dim != self.hidden_size:
            raise LiquidError(
                f"tie_word_embeddings needs embedding_dim ({self.embedding_dim}) equal to hidden_size"
                f" ({self.hidden_size})"
            )
        if self.time_components < 0:
            raise LiquidError(f"time_components must be at least 0, not {self.time_components}")

    def _check_numbers(self):
        if not 0 < self.time_scale < math.inf:
            raise LiquidError(f"time_scale must be positive and finite, not {self.time_scale}")
        if self.memory_scale is not None and not 0 < self.memory_scale < math.inf:
            raise LiquidError(f"memory_scale must be positive and finite, not {self.memory_scale}")
        if not 0 <= self.time_resolution < math.inf:
            raise LiquidError(f"time_resolution must be at least 0 and finite, not {self.time_resolution}")
        if self.norm_eps <= 0:
            raise LiquidError(f"norm_eps must be greater than 0, not {self.norm_eps}")
        for name in FLOATS:
            if (value := getattr(self, name)) is not None and not math.isfinite(value):
                raise LiquidError(f"{name} must be finite, not {value}")
        if not 0 <= self.dropout_rate < 1:
            raise LiquidError(f"dropout_rate must be in [0, 1), not {self.dropout_rate}")

    def _check_mixers(self):
        kinds, heads = self.mixer_types or [], self.num_heads
        if len(kinds) != self.num_hidden_layers or any(kind not in MIXERS for kind in kinds):
            raise LiquidError(
                f"mixer_types needs {' or '.join(MIXERS)} for each of the {self.num_hidden_layers} blocks,"
                f" not {kinds}"
            )
        if "memory" in kinds and heads is not None and (heads < 1 or self.hidden_size % heads):
            raise LiquidError(f"num_heads ({heads}) must divide hidden_size ({self.hidden_size})")


FLOATS = tuple(name for name, kind in Sizes.__annotations__.items() if float in get_args(kind))
"""Fields for floats."""
