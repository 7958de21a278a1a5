"""The settings of a training run, and how they are read from a TOML file."""

import difflib
import math
import re
import tomllib
from dataclasses import field, fields
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, InstanceOf, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from ..errors import LiquidError, first_line
from ..model.sizes import Sizes
from ..runtime.validation import STRICT, explain, plain_errors, unknown
from ..text.reading import ReadingOptions, reading_names

Count = Annotated[int, Field(gt=0, lt=2**63)]
CountOrNone = Annotated[int, Field(ge=0, lt=2**63)]
Positive = Annotated[float, Field(gt=0, lt=math.inf)]
Name = InstanceOf[str]  # a file name may have bytes that are not valid text
Paths = Annotated[list[Name], Field(strict=False)]  # accepts a tuple
NotNegative = Annotated[float, Field(ge=0, lt=math.inf)]

SIZES: dict[str, dict[str, int]] = {
    "tiny": {"hidden_size": 128, "num_hidden_layers": 4, "embedding_dim": 128, "latent_dim": 64},
    "small": {"hidden_size": 256, "num_hidden_layers": 5, "embedding_dim": 256, "latent_dim": 128},
    "base": {"hidden_size": 512, "num_hidden_layers": 9, "embedding_dim": 512, "latent_dim": 256},
}
"""Named sizes: about 1, 5 and 25 million parameters without those of the vocabulary ("base" without n-grams:
33 million)."""

LARGEST_BPE = 1_000_000
"""Largest vocabulary that a run may learn. The largest vocabularies in use are a quarter of it."""
SIZED = tuple(
    name
    for name in Sizes.__annotations__
    if not name.endswith("token_id") and name not in ("vocab_size", "use_cache", "model_type")
)
"""Fields of LiquidConfig that `sizes` may set. The other fields come from the tokenizer, or are not sizes."""


OF_TIMES = ("time_format", "time_zone", "year", "time_field", "late")
"""Settings of text with times."""


@plain_errors
@dataclass(config=STRICT)
class TrainSettings:
    """All settings of a training run.

    Attributes:
        paths: training text; empty: the text that comes with Python.
        weights: one per path: how often its documents are read in an epoch; empty: once.
        span: length in tokens of the spans that documents are cut into. Each epoch reads the spans in another
            order, so that a short run sees parts of all long texts. 0: whole documents, in their order if
            there are no weights.
        valid: held-out text; empty: a part of the training text, which is set apart before training.
        tokenizer: "bytes", "bpe:N", a folder, or a hub id.
        steps: length of the run in steps. Give either `steps` or `minutes`.
        minutes: length of the run in minutes.
        size: a name in `SIZES`.
        sizes: fields of LiquidConfig that replace those of `size`.
        timestamps: the text has times; the model uses and predicts them.
        time_format, time_zone, year, time_field, text_field, late, encoding, errors: how the text is read
            (see `ReadingOptions` and `ClockOptions`).
        context: tokens per row of a batch; the state is carried from batch to batch.
        batch_size: rows per batch.
        accumulate: batches per step, one after the other (gradient accumulation).
        warmup: steps over which the learning rate rises; after them it falls, to 0 at the end of the run.
        patience: stop after this many evaluations without a lower held-out loss, and keep the best model.
        lr: peak learning rate.
        weight_decay: weight decay of the matrices.
        dropout: dropout rate.
        seed: seed of weights, order of the text, and dropout.
        recompute: compute activations again in the backward pass (activation checkpointing).
        bf16: use bfloat16. None: only if it is faster on this machine.
        tensorboard: also write logs for TensorBoard.
        source: model to fine-tune: a folder, "hf:USER/NAME", or the name of a bundled model. The run keeps
            its weights, sizes and tokenizer. None: a new model.

    Raises:
        LiquidError: a value has the wrong type or size, two settings contradict each other, or a name is
            unknown.

    Example:
        >>> settings = TrainSettings(paths=["notes.txt"], minutes=10, size="tiny")
        >>> settings.lr, settings.context
        (0.02, 256)
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
    time_format: str | None = None
    time_zone: str | None = None
    year: Annotated[int, Field(ge=1, le=9999)] | None = None
    time_field: str | None = None
    text_field: str | None = None
    late: str = "clamp"
    encoding: str | None = None
    errors: str = "strict"
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
            raise LiquidError("give the length of the run: either steps or minutes")
        if self.weights and len(self.weights) != len(self.paths):
            raise LiquidError(
                f"weights must have one number for each path: {len(self.weights)} for {len(self.paths)} paths"
            )
        if self.weights and not any(self.weights):
            raise LiquidError("weights must not be 0 for all paths: give at least one path a weight above 0")
        if self.size not in SIZES:
            raise LiquidError(f"unknown size {self.size!r}; choose one of {', '.join(SIZES)}")
        bpe_size(self.tokenizer)
        if self.source is not None:
            usual = {"tokenizer": "bytes", "size": "small", "sizes": {}}
            check_source({name for name, value in usual.items() if getattr(self, name) != value})
        given = self.reading.given()  # raises LiquidError for an unknown name
        if not self.timestamps and (names := [name for name in OF_TIMES if name in given]):
            raise LiquidError(
                f"--{names[0].replace('_', '-')} needs --timestamps: the text is read without times"
            )
        self._check_sizes()

    def _check_sizes(self):
        check_names_and_types(self.sizes)
        sizes: dict[str, Any] = {**SIZES[self.size], **self.sizes}
        Sizes(**sizes).complete()

    @property
    def reading(self) -> ReadingOptions:
        """How the text is read."""
        return ReadingOptions.of(**{name: getattr(self, name) for name in reading_names()})


def check_source(names: set[str]) -> None:
    """Check that no setting is given that a fine-tuned model takes from its source.

    Args:
        names: settings of size and tokenizer that were given together with `source`.

    Raises:
        LiquidError: `names` is not empty.
    """
    if names:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(names))
        raise LiquidError(f"--from keeps the sizes and the tokenizer of its model: leave {options} out")


def check_names_and_types(sizes: dict[str, Any], place: str = "") -> None:
    """Check the names in `sizes`, and the type of each value.

    Args:
        sizes: fields of LiquidConfig.
        place: begins the message.

    Raises:
        LiquidError: a name is unknown, or a value has the wrong type.
    """
    for name, value in sizes.items():
        if name not in SIZED:
            raise LiquidError(place + unknown(f"sizes.{name}", "setting", SIZED))
        kind = Sizes.__annotations__[name]
        kind = {float | int: float, float | int | None: float | None}.get(kind, kind)  # one error, not two
        try:
            TypeAdapter(kind, config=STRICT).validate_python(value)
        except ValidationError as error:
            raise LiquidError(place + explain(error, (), f"sizes.{name}")) from error


def bpe_size(tokenizer: str) -> int | None:
    """The vocabulary size N of "bpe:N"; None for another tokenizer.

    Raises:
        LiquidError: N is not a number or is too large, or the name looks like a typing error of "bytes" or
            "bpe:N".

    Example:
        >>> bpe_size("bpe:4000"), bpe_size("bytes")
        (4000, None)
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
                f"--tokenizer {tokenizer}: give the size of the vocabulary after bpe:, as in bpe:4000,"
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
"""Name and type of each setting."""


def read_config(file: Path) -> dict[str, Any]:
    """Read settings from a TOML file: names of `TrainSettings`, and under [sizes] fields of LiquidConfig.

    Args:
        file: the TOML file.

    Returns:
        the settings in the file by name, for `TrainSettings`.

    Raises:
        LiquidError: the file cannot be read or is not TOML, a name is unknown, or a value has the wrong type
            or size.
    """
    try:
        found = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise LiquidError(f"{file} cannot be read as settings: {first_line(error)}") from error
    for name, value in found.items():
        if name not in SETTINGS:
            place = "; it belongs under [sizes]" if name in SIZED else ""
            raise LiquidError(f"{file}: {unknown(name, 'setting', sorted(SETTINGS))}{place}")
        try:
            TypeAdapter(SETTINGS[name], config=STRICT).validate_python(value)
        except ValidationError as error:
            raise LiquidError(f"{file}: {explain(error, (), name)}") from error
    check_names_and_types(found.get("sizes", {}), f"{file}: ")
    return found
