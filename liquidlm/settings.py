"""What defines a training run, and reading it from a file."""

import math
import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from .config import LiquidConfig
from .errors import LiquidError

SIZES: dict[str, dict[str, int]] = {
    "tiny": {"hidden_size": 128, "num_hidden_layers": 4, "embedding_dim": 128, "latent_dim": 64},
    "small": {"hidden_size": 256, "num_hidden_layers": 5, "embedding_dim": 256, "latent_dim": 128},
    "base": {"hidden_size": 512, "num_hidden_layers": 9, "embedding_dim": 512, "latent_dim": 256},
}
"""About 1, 5 and 25 million parameters beside the vocabulary's; "base" without n-grams 33."""


@dataclass
class TrainSettings:
    """Everything that defines a run.

    Attributes:
        paths: training text; none: the text that every Python carries.
        weights: one per path: how often its documents are told in an epoch; none: once.
        span: documents are cut into spans of so many tokens, read in another order in every epoch, so that
            even a short run sees all of a few long texts; 0: whole documents, in their order if unweighted.
        valid: held-out text; none: a part of the training text, set apart before training.
        tokenizer: "bytes", "bpe:N", a folder, or a hub id.
        steps, minutes: how long to train; exactly one of them.
        sizes: fields of LiquidConfig that replace those of `size`.
        timestamps: the text has times, which the model is to live in and to foretell (see `timed`).
        context, batch_size: tokens per row and rows per batch; the state is carried from batch to batch.
        accumulate: batches per step, one after the other.
        warmup: steps over which the learning rate rises; then it falls to 0 at the end of the run.
        patience: stop when the held-out text has not got better for so many rounds, and keep the best.
        recompute: activations are computed anew in the backward pass (activation checkpointing).
        bf16: None where the machine is faster with it.
    """

    paths: list[str] = field(default_factory=list)
    weights: list[int | float] = field(default_factory=list)
    span: int = 16384
    valid: list[str] = field(default_factory=list)
    tokenizer: str = "bytes"
    steps: int | None = None
    minutes: float | None = None
    size: str = "small"
    sizes: dict[str, Any] = field(default_factory=dict)
    timestamps: bool = False
    context: int = 256
    batch_size: int = 8
    accumulate: int = 1
    warmup: int = 30
    patience: int | None = None
    lr: float = 0.02
    weight_decay: float = 0.1
    dropout: float = 0.0
    seed: int = 0
    recompute: bool = False
    bf16: bool | None = None
    tensorboard: bool = False

    def __post_init__(self):
        if (self.steps is None) == (self.minutes is None):
            raise LiquidError("say how long to train: either steps or minutes")
        for name in ("steps", "minutes", "context", "batch_size", "accumulate", "warmup", "patience", "lr"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise LiquidError(f"{name} must be over 0, not {value}")
        if self.span < 0:
            raise LiquidError(f"span must be at least 0, not {self.span}")
        if not 0 <= self.weight_decay < math.inf:
            raise LiquidError(f"weight_decay must be at least 0, not {self.weight_decay}")
        if self.weights and len(self.weights) != len(self.paths):
            raise LiquidError(f"{len(self.weights)} weights for {len(self.paths)} paths: give one for each")
        if self.size not in SIZES:
            raise LiquidError(f"unknown size {self.size!r}; choose one of {', '.join(SIZES)}")
        if not 0 <= self.seed < 2**63:
            raise LiquidError(f"seed must be at least 0, not {self.seed}")


SETTINGS = tuple(field.name for field in fields(TrainSettings))


def read_config(file: Path) -> dict[str, Any]:
    """Settings from a TOML file: names of `TrainSettings`, and under [sizes] fields of LiquidConfig.

    Raises:
        LiquidError: a file that cannot be read or is not TOML, or a name that is none of these.
    """
    try:
        found = tomllib.loads(file.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise LiquidError(f"{file} cannot be read as settings: {error}") from error
    known = {"sizes": {field.name for field in fields(LiquidConfig)}, "": set(SETTINGS)}
    for name in [*found, *(f"sizes.{name}" for name in found.get("sizes", {}))]:
        section, _, last = name.rpartition(".")
        if last not in known[section]:
            raise LiquidError(f"{file}: {name} is no setting; there are {', '.join(sorted(known[section]))}")
    return found
