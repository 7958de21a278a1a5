"""`liquidlm train`: its options, those of a file of settings, and a run gone on with."""

from pathlib import Path
from typing import Annotated

import typer

from ..errors import LiquidError
from .arguments import named_folder


def train(
    context_: typer.Context,  # of the command, not of the text
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PATH]...",
            help="Text to learn: files, folders, globs, .gz, .jsonl with a `text` field, or - for standard"
            " input, hf:NAME for a Hugging Face data set (hf:NAME?split=…&column=…). Without any: the"
            " documentation that every Python carries (2 MB of English).",
        ),
    ] = None,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            metavar="DIR",
            parser=named_folder,
            help="Folder for the model, its curve and checkpoints.",
        ),
    ] = ...,  # pyright: ignore[reportArgumentType]
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="F", help="Settings from a TOML file; what stands on the command line counts more."
        ),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Train for so many minutes. [default: 5, without --steps]")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Train for so many steps instead.")] = None,
    tokenizer: Annotated[
        str, typer.Option(help="`bytes`, `bpe:N` (learned from the text), a folder, or a hub id.")
    ] = "bytes",
    size: Annotated[
        str,
        typer.Option(help="`tiny`, `small` or `base`: about 1, 5 and 25 million parameters (33 with a BPE)."),
    ] = "small",
    weights: Annotated[
        list[float] | None,
        typer.Option(
            "--weight",
            help="How often the documents of a PATH are told in an epoch; once per PATH, in their order.",
        ),
    ] = None,
    span: Annotated[
        int,
        typer.Option(help="Read spans of so many tokens in mixed order; 0: whole documents in their order."),
    ] = 16384,
    valid: Annotated[
        list[str] | None,
        typer.Option(metavar="PATH", help="Held-out text. [default: a tenth, set apart before training]"),
    ] = None,
    timestamps: Annotated[
        bool,
        typer.Option(
            "--timestamps",
            help="The text has times: lines that begin with one, .srt, .vtt, .jsonl with `time` and `text`;"
            " the model lives in them, and learns to say when.",
        ),
    ] = False,
    context: Annotated[
        int, typer.Option(help="Tokens per row and step; the state is carried from step to step.")
    ] = 256,
    batch_size: Annotated[int, typer.Option("--batch", help="Rows per batch.")] = 8,
    accumulate: Annotated[
        int, typer.Option(help="Batches per step: a larger step in the memory of one batch.")
    ] = 1,
    warmup: Annotated[int, typer.Option(help="Steps over which the learning rate rises.")] = 30,
    patience: Annotated[
        int | None,
        typer.Option(
            help="Stop when the held-out text has not got better for so many tries, and keep the best."
        ),
    ] = None,
    lr: Annotated[
        float | None, typer.Option(help="Peak learning rate of the matrices (Muon). [default: 0.02]")
    ] = None,
    weight_decay: Annotated[float, typer.Option(help="Weight decay of the matrices.")] = 0.1,
    dropout: Annotated[
        float, typer.Option(help="Dropout; helps when the text is read many times over.")
    ] = 0.0,
    recompute: Annotated[
        bool,
        typer.Option(
            "--recompute",
            help="Compute activations anew in the backward pass: far less memory, a third more time.",
        ),
    ] = False,
    hidden_size: Annotated[int | None, typer.Option(help="Width, in place of the size's.")] = None,
    layers: Annotated[int | None, typer.Option(help="Blocks, in place of the size's.")] = None,
    embedding_dim: Annotated[
        int | None, typer.Option(help="Width of the embedding, in place of the size's.")
    ] = None,
    latent_dim: Annotated[int | None, typer.Option(help="Width that the flow reduces it to.")] = None,
    seed: Annotated[int, typer.Option(help="Of weights, split and order.")] = 0,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out, with its settings.")
    ] = False,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Also write TensorBoard events.")
    ] = False,
) -> None:
    """Train a model on text.

    Writes model, tokenizer, `curve.png` and `curve.jsonl` to --out, with checkpoints on the way. Ctrl-C saves
    and says how to go on; after a crash, --resume goes on from the last checkpoint.

        liquidlm train novel.txt --out runs/novel --tokenizer bpe:4000 --minutes 10

    On several processors or machines (docs/many-processes.md):

        torchrun --nproc-per-node 8 -m liquidlm train novel.txt --out runs/novel --batch 64
    """
    from ..training import loop as train_module
    from ..training.settings import SETTINGS, TrainSettings, read_config

    if resume:
        _only(context_, "out", "resume", "minutes", "steps", "lr", "tensorboard")
        train_module.resume(out, minutes=minutes, steps=steps, lr=lr, tensorboard=tensorboard or None)
        return
    sizes = {
        "hidden_size": hidden_size,
        "num_hidden_layers": layers,
        "embedding_dim": embedding_dim,
        "latent_dim": latent_dim,
    }
    values = {name: value for name, value in context_.params.items() if name in SETTINGS}
    named = {name for name in values if _on_command_line(context_, name)}
    from_file = {} if config is None else read_config(config)
    if named & {"minutes", "steps"}:
        from_file = {name: value for name, value in from_file.items() if name not in ("minutes", "steps")}
    defaults = {name: value for name, value in values.items() if value is not None and name not in from_file}
    settings = defaults | from_file | {name: values[name] for name in named}
    settings["sizes"] = from_file.get("sizes", {}) | {k: v for k, v in sizes.items() if v is not None}
    if settings.get("minutes") is None and settings.get("steps") is None:
        settings["minutes"] = 5.0
    train_module.train(TrainSettings(**settings), out)


def _on_command_line(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _only(context: typer.Context, *allowed: str) -> None:
    """LiquidError for an option that a resumed run would not heed."""
    for name in context.params:
        if name not in allowed and _on_command_line(context, name):
            raise LiquidError(f"--resume goes on with the run's own settings: leave {name} out")
