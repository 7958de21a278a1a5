"""The fields of `LiquidConfig`: names, types, defaults and ranges. `LiquidConfig` explains each one.

They are apart from it because its imports take seconds, and a command checks its options first.
"""

import math
from dataclasses import dataclass
from typing import get_args

from ..errors import LiquidError
from ..nn.table_sizes import check_tables, check_vocabulary


@dataclass
class Sizes:
    """The fields of `LiquidConfig`.

    Example:
        >>> Sizes(hidden_size=0).check()
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

    def check(self) -> None:
        """Check the ranges, and turn whole numbers in fields for floats into floats.

        Raises:
            LiquidError: a value is out of its range.
        """
        self._whole_floats()
        self._check_counts()
        self._check_numbers()
        if self.count_orders:
            check_tables(self.count_orders, self.count_lines, self.count_training_lines)
            check_vocabulary(self.vocab_size)

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


FLOATS = tuple(name for name, kind in Sizes.__annotations__.items() if float in get_args(kind))
"""Fields for floats."""
