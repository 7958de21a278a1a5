"""What defines a training run, and reading it from a file."""

import difflib
import math
import re
import tomllib
from dataclasses import field, fields
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, InstanceOf, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from ..errors import LiquidError
from ..model.config import LiquidConfig
from ..runtime.validation import STRICT, explain, plain_errors, unknown

Count = Annotated[int, Field(gt=0, lt=2**63)]
CountOrNone = Annotated[int, Field(ge=0, lt=2**63)]
Positive = Annotated[float, Field(gt=0, lt=math.inf)]
Name = InstanceOf[str]  # a file's name need not be of characters
Paths = Annotated[list[Name], Field(strict=False)]  # a tuple will do
NotNegative = Annotated[float, Field(ge=0, lt=math.inf)]

SIZES: dict[str, dict[str, int]] = {
    "tiny": {"hidden_size": 128, "num_hidden_layers": 4, "embedding_dim": 128, "latent_dim": 64},
    "small": {"hidden_size": 256, "num_hidden_layers": 5, "embedding_dim": 256, "latent_dim": 128},
    "base": {"hidden_size": 512, "num_hidden_layers": 9, "embedding_dim": 512, "latent_dim": 256},
}
"""About 1, 5 and 25 million parameters beside the vocabulary's; "base" without n-grams 33."""

LARGEST_BPE = 1_000_000
"""Tokens that a vocabulary learned here may have; the largest in use have a quarter of that."""
SIZED = tuple(
    name
    for name in LiquidConfig.__annotations__
    if not name.endswith("token_id") and name not in ("vocab_size", "use_cache", "model_type")
)
"""Fields of LiquidConfig that `sizes` may give; the others are the tokenizer's, or no sizes."""


@plain_errors
@dataclass(config=STRICT)
class TrainSettings:
    """Everything that defines a run.

    Attributes:
        paths: training text; none: the text that every Python carries.
        weights: one per path: how often its documents are told in an epoch; none: once.
        span: documents are cut into spans of so many tokens, read in another order in every epoch, so that
            even a short run sees all of a few long texts; 0: whole documents, in their order if unweighted.
        valid: held-out text; none: a part of the training text, set apart before training.
        source: the model to fine-tune: a folder, "hf:USER/NAME", or the name of a bundled model. Its weights,
            sizes and tokenizer are kept. None: a new model.
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

    Raises:
        LiquidError: a value of the wrong type or size, settings that contradict one another, or a name that
            is none of these.
    """

    paths: Paths = field(default_factory=list)
    weights: Annotated[list[NotNegative], Field(strict=False)] = field(default_factory=list)
    span: CountOrNone = 16384
    valid: Paths = field(default_factory=list)
    tokenizer: Name = "bytes"
    steps: Count | None = None
    minutes: Positive | None = None
    size: str = "small"
    sizes: dict[str, Any] = field(default_factory=dict)
    timestamps: bool = False
    context: Count = 256
    batch_size: Count = 8
    accumulate: Count = 1
    warmup: Count = 30
    patience: Count | None = None
    lr: Positive = 0.02
    weight_decay: NotNegative = 0.1
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    seed: CountOrNone = 0
    recompute: bool = False
    bf16: bool | None = None
    tensorboard: bool = False
    source: Name | None = None

    def __post_init__(self):
        if (self.steps is None) == (self.minutes is None):
            raise LiquidError("say how long to train: either steps or minutes")
        if self.weights and len(self.weights) != len(self.paths):
            raise LiquidError(f"{len(self.weights)} weights for {len(self.paths)} paths: give one for each")
        if self.weights and not any(self.weights):
            raise LiquidError("weights must not all be 0: nothing would be told")
        if self.size not in SIZES:
            raise LiquidError(f"unknown size {self.size!r}; choose one of {', '.join(SIZES)}")
        bpe_size(self.tokenizer)
        if self.source is not None:
            usual = {"tokenizer": "bytes", "size": "small", "sizes": {}}
            check_source({name for name, value in usual.items() if getattr(self, name) != value})
        if names := [name for name in self.sizes if name not in SIZED]:
            raise LiquidError(unknown(f"sizes.{names[0]}", "setting", SIZED))
        sizes: dict[str, Any] = {**SIZES[self.size], **self.sizes}
        LiquidConfig(**sizes)  # which refuses what makes no model


def check_source(names: set[str]) -> None:
    """Refuse settings that a fine-tuned model takes from its source.

    Args:
        names: settings of sizes and tokenizer that were given beside `source`.

    Raises:
        LiquidError: there are any.
    """
    if names:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(names))
        raise LiquidError(f"--from keeps the sizes and the tokenizer of its model: leave {options} out")


def bpe_size(tokenizer: str) -> int | None:
    """N of "bpe:N"; None for another tokenizer.

    Raises:
        LiquidError: N is no number or too large, or a name that is nearly "bytes" or "bpe:N".
    """
    if tokenizer == "bytes" or Path(tokenizer).exists():
        return None
    if tokenizer.startswith("bpe:"):
        try:
            size = int(tokenizer[4:])
        except ValueError:
            size = LARGEST_BPE + 1
        if size > LARGEST_BPE:
            raise LiquidError(
                f"--tokenizer {tokenizer}: after bpe: comes the size of the vocabulary, as in bpe:4000,"
                f" at most {LARGEST_BPE:,}"
            )
        return size
    if found := re.fullmatch(r"b[pe]{2}\W*_?(\d*)", tokenizer.strip(), re.IGNORECASE):
        raise LiquidError(
            f"--tokenizer {tokenizer}: did you mean bpe:{found[1] or 4000}, learned from the text?"
        )
    if difflib.get_close_matches(tokenizer.strip().lower(), ["bytes"], cutoff=0.75):
        raise LiquidError(f"--tokenizer {tokenizer}: did you mean bytes?")
    return None


SETTINGS: dict[str, Any] = {field.name: field.type for field in fields(TrainSettings)}
"""Name and type of each."""


def read_config(file: Path) -> dict[str, Any]:
    """Settings from a TOML file: names of `TrainSettings`, and under [sizes] fields of LiquidConfig.

    Raises:
        LiquidError: a file that cannot be read or is not TOML, a name that is none of these, or a value of
            the wrong type or size.
    """
    try:
        found = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise LiquidError(f"{file} cannot be read as settings: {error}") from error
    for name, value in found.items():
        if name not in SETTINGS:
            place = "; it belongs under [sizes]" if name in SIZED else ""
            raise LiquidError(f"{file}: {unknown(name, 'setting', sorted(SETTINGS))}{place}")
        try:
            TypeAdapter(SETTINGS[name], config=STRICT).validate_python(value)
        except ValidationError as error:
            raise LiquidError(f"{file}: {explain(error, (), name)}") from error
    for name in found.get("sizes", {}):
        if name not in SIZED:
            raise LiquidError(f"{file}: {unknown(f'sizes.{name}', 'setting', SIZED)}")
    return found
