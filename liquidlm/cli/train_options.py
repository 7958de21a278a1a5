"""The options of `liquidlm train`, each with its type and its help text."""

from pathlib import Path
from typing import Annotated

import typer

from ..pretrained import names_in_words
from .arguments import named_folder

Paths = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[PATH]...",
        help="Training text: files, folders, globs, .gz, .jsonl with a `text` field, - for standard input,"
        " hf:NAME for a Hugging Face data set (hf:NAME?split=…&column=…). Default: the documentation in the"
        " Python standard library (2 MB of English).",
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="DIR",
        parser=named_folder,
        help="Folder for the model, its curve and checkpoints. Only --dry-run needs none.",
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(metavar="F", help="Settings from a TOML file. Options on the command line replace them."),
]
Source = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="DIR",
        help=f"Fine-tune a trained model: a folder, hf:USER/NAME, or {names_in_words()} (bundled). The run"
        " keeps the weights, sizes and tokenizer. --out must be another folder.",
    ),
]
Minutes = Annotated[float | None, typer.Option(help="Minutes to train. [default: 5 if --steps is not given]")]
Steps = Annotated[int | None, typer.Option(help="Steps to train, in place of --minutes.")]
Tokenizer = Annotated[
    str, typer.Option(help="`bytes`, `bpe:N` (learned from the text), a folder, or a hub id.")
]
Size = Annotated[
    str,
    typer.Option(
        help="`tiny`, `small` or `base`: 1.5, 4.4 and 25 million parameters (with bpe:4000: 2, 7, 37)."
    ),
]
Weights = Annotated[
    list[float] | None,
    typer.Option(
        "--weight",
        help="How often an epoch reads the documents of a PATH. Give one weight for each PATH, in order.",
    ),
]
Span = Annotated[
    int,
    typer.Option(
        help="Cut documents into spans of N tokens and shuffle the spans. 0: whole documents, in order."
    ),
]
Valid = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATH", help="Held-out text. [default: a tenth of the text, set apart before training]"
    ),
]
Timestamps = Annotated[
    bool,
    typer.Option(
        "--timestamps",
        help="The text has times: logs, subtitles, JSON Lines, CSV (`liquidlm times FILE` shows them)."
        " The model reads the times, and learns when the next event comes.",
    ),
]
Context = Annotated[
    int, typer.Option(help="Tokens per row and step. The state is carried from step to step.")
]
BatchSize = Annotated[int, typer.Option("--batch", help="Rows per batch.")]
Accumulate = Annotated[int, typer.Option(help="Batches per step: a larger step in the memory of one batch.")]
Warmup = Annotated[int, typer.Option(help="Steps over which the learning rate rises.")]
Patience = Annotated[
    int | None,
    typer.Option(
        help="Stop when the held-out loss has not improved for N evaluations, and keep the best model."
    ),
]
LearningRate = Annotated[
    float | None, typer.Option(help="Peak learning rate of the matrices (Muon). [default: 0.02]")
]
WeightDecay = Annotated[float, typer.Option(help="Weight decay of the matrices.")]
Dropout = Annotated[float, typer.Option(help="Dropout. It helps when the text is read many times.")]
Recompute = Annotated[
    bool,
    typer.Option(
        "--recompute",
        help="Compute activations again in the backward pass: much less memory, a third more time.",
    ),
]
HiddenSize = Annotated[int | None, typer.Option(help="Width. [default: the width of --size]")]
Layers = Annotated[int | None, typer.Option(help="Number of blocks. [default: the number of --size]")]
EmbeddingDim = Annotated[
    int | None, typer.Option(help="Width of the embedding. [default: the width of --size]")
]
LatentDim = Annotated[int | None, typer.Option(help="Width to which the flow reduces the embedding.")]
Seed = Annotated[int, typer.Option(help="Seed of weights, held-out split and order of the text.")]
Device = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="`cpu`, `cuda`, `cuda:1`, … [default: the GPU if there is one]"),
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Continue the run in --out from its newest checkpoint.")
]
TensorBoard = Annotated[bool, typer.Option("--tensorboard", help="Also write TensorBoard events.")]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Measure a few steps. Print tokens, parameters, expected memory and expected time. Write nothing"
        " to --out.",
    ),
]
