"""`liquidlm train`: new runs, resumed runs, and dry runs."""

import os
from typing import TYPE_CHECKING, Any

import typer

from ..errors import LiquidError
from ..runtime.device_names import check_device_name
from . import reading_options as reading
from . import train_options as options
from .arguments import naming_options, option_name
from .model_imports import import_models

if TYPE_CHECKING:
    import torch

SIZES = {
    "hidden_size": "hidden_size",
    "layers": "num_hidden_layers",
    "embedding_dim": "embedding_dim",
    "latent_dim": "latent_dim",
}
"""Options of a size, and the field of LiquidConfig that each one sets."""
DEFAULT_MINUTES = 5.0


def train(
    context_: typer.Context,  # click's context of the command; `context` is an option
    paths: options.Paths = None,
    out: options.Out = None,
    config: options.Config = None,
    source: options.Source = None,
    minutes: options.Minutes = None,
    steps: options.Steps = None,
    tokenizer: options.Tokenizer = "bytes",
    size: options.Size = "small",
    weights: options.Weights = None,
    span: options.Span = 16384,
    valid: options.Valid = None,
    timestamps: options.Timestamps = False,
    time_format: reading.TimeFormat = None,
    time_zone: reading.TimeZone = None,
    year: reading.Year = None,
    time_field: reading.TimeField = None,
    text_field: reading.TextField = None,
    late: reading.Late = None,
    encoding: reading.Encoding = None,
    errors: reading.Errors = None,
    context: options.Context = 256,
    batch_size: options.BatchSize = 8,
    accumulate: options.Accumulate = 1,
    warmup: options.Warmup = 30,
    patience: options.Patience = None,
    lr: options.LearningRate = None,
    weight_decay: options.WeightDecay = 0.1,
    dropout: options.Dropout = 0.0,
    recompute: options.Recompute = False,
    hidden_size: options.HiddenSize = None,
    layers: options.Layers = None,
    embedding_dim: options.EmbeddingDim = None,
    latent_dim: options.LatentDim = None,
    seed: options.Seed = 0,
    device: options.Device = None,
    resume: options.Resume = False,
    tensorboard: options.TensorBoard = False,
    dry_run: options.DryRun = False,
) -> None:
    """Train a model on text.

    Writes model, tokenizer, `curve.png`, `curve.jsonl` and checkpoints to --out. Ctrl-C saves the run and
    prints the command that continues it. After a crash, --resume continues from the last checkpoint.

        liquidlm train novel.txt --out runs/novel --tokenizer bpe:4000

    On several processors or machines (docs/many-processes.md):

        torchrun --nproc-per-node 8 -m liquidlm train novel.txt --out runs/novel
    """
    if out is None and (resume or not dry_run):
        raise typer.BadParameter("is missing: name a folder for the model", param_hint="--out")
    if device is not None:
        check_device_name(device)
    if resume:
        _resume(context_)
    else:
        _start(context_)


def _start(context: typer.Context) -> None:
    from ..training.settings import SETTINGS, TrainSettings
    from ..training.start_checks import check_start

    given = context.params
    with naming_options(SETTINGS, _option):
        settings = TrainSettings(**_settings(context))
    if not _several_processes():
        check_start(settings, None if given["dry_run"] else given["out"])
    device = _device(given["device"])
    import_models()
    from ..training import loop
    from ..training.dry_run import dry_run

    if given["dry_run"]:
        dry_run(settings, device)
    else:
        loop.train(settings, given["out"], device)


def _resume(context: typer.Context) -> None:
    """Raises LiquidError for an option that a resumed run would ignore."""
    from ..training.settings import SETTINGS
    from ..training.start_checks import check_resume

    given, changes = context.params, ("minutes", "steps", "lr", "tensorboard")
    for name in given:
        if name not in ("out", "resume", "device", *changes) and _on_command_line(context, name):
            raise LiquidError(f"--resume continues with the settings of the run: leave {_option(name)} out")
    values = {name: given[name] for name in changes}
    values["tensorboard"] = values["tensorboard"] or None  # the option can only switch it on
    if not _several_processes():
        with naming_options(SETTINGS, _option):
            check_resume(given["out"], values)
    device = _device(given["device"])
    import_models()
    from ..training import loop

    with naming_options(SETTINGS, _option):
        loop.resume(given["out"], device, **values)


def _device(name: str | None) -> "torch.device":
    """The device, chosen before the other imports: only torch knows which GPUs the machine has."""
    from ..runtime.precision import chosen_device

    return chosen_device(name)


def _settings(context: typer.Context) -> dict[str, Any]:
    """Values of `TrainSettings`: the command line's before those of --config, and these before defaults."""
    from ..training.settings import SETTINGS, check_source, read_config

    values = {name: value for name, value in context.params.items() if name in SETTINGS}
    named = {name for name in values if _on_command_line(context, name)}
    config = context.params["config"]
    from_file = {} if config is None else read_config(config)
    if named & {"minutes", "steps"}:
        from_file = {name: value for name, value in from_file.items() if name not in ("minutes", "steps")}
    defaults = {name: value for name, value in values.items() if value is not None and name not in from_file}
    settings = defaults | from_file | {name: values[name] for name in named}
    sizes = {field: context.params[option] for option, field in SIZES.items()}
    given = {field: value for field, value in sizes.items() if value is not None}
    settings["sizes"] = from_file.get("sizes", {}) | given
    if settings.get("source") is not None:
        chosen = {*named, *from_file, *(option for option, field in SIZES.items() if field in given)}
        check_source(chosen & {"tokenizer", "size", "sizes", *SIZES})
    if settings.get("minutes") is None and settings.get("steps") is None:
        settings["minutes"] = DEFAULT_MINUTES
    return settings


def _several_processes() -> bool:
    """Whether torchrun has started this process. The others must learn of what it finds wrong."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def _on_command_line(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _option(name: str) -> str:
    """An option as the user types it."""
    names = {"batch_size": "--batch", "weights": "--weight", "source": "--from", "paths": "the PATHs"}
    return names.get(name, option_name(name))
