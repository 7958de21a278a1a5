"""`liquidlm eval`: evaluate a model on a text."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import typer

from ..errors import LiquidError
from ..inference.defaults import ADAPT_RATE
from ..inference.model_folders import check_model, has_times
from ..inference.reading_file import kept_reading
from ..text.paths import find_sources
from ..text.reading import ReadingOptions
from ..text.reading_facts import ReadingFacts
from ..training.pace import check_pace
from . import reading_options as reading
from .arguments import AsJson, Folder, Weights
from .model_imports import import_models

Paths = Annotated[list[str], typer.Argument(metavar="PATH...", help="Text to evaluate on, as for `train`.")]
Timestamps = Annotated[
    bool | None,
    typer.Option(
        "--timestamps/--no-timestamps",
        help="The text has times, as for `train`. [default: as the model was trained]",
    ),
]
Adapt = Annotated[
    bool,
    typer.Option(
        "--adapt",
        help="The model goes on learning: each block of 512 tokens is evaluated first, then learned. The"
        " folder does not change.",
    ),
]
Rate = Annotated[float | None, typer.Option(help="With --adapt: the peak learning rate. [default: 0.0001]")]
Chunk = Annotated[int, typer.Option(help="Tokens per pass. It changes the memory, not the result.")]


def evaluate(
    context: typer.Context,
    folder: Folder,
    paths: Paths,
    timestamps: Timestamps = None,
    as_json: AsJson = False,
    chunk: Chunk = 4096,
    weights: Weights = "float32",
    adapt: Adapt = False,
    rate: Rate = None,
    time_format: reading.TimeFormat = None,
    time_zone: reading.TimeZone = None,
    year: reading.Year = None,
    time_field: reading.TimeField = None,
    text_field: reading.TextField = None,
    late: reading.Late = None,
    encoding: reading.Encoding = None,
    errors: reading.Errors = None,
) -> None:
    """Measure the bits per byte of whole documents.

    The state is carried from the first byte of a document to the last. The command also prints the perplexity
    per token, tokens per second, peak memory, and the size of the state.
    """
    if chunk < 1:
        raise LiquidError(f"--chunk must be at least 1, not {chunk}")
    if rate is not None and not adapt:
        raise LiquidError("--rate needs --adapt: add it, or leave --rate out")
    if adapt and weights != "float32":
        raise LiquidError(f"--adapt learns in float32: leave --weights {weights} out")
    rate = ADAPT_RATE if rate is None else rate
    check_pace(rate)
    found = check_model(folder, times=bool(timestamps))
    options = reading.reading_options(context, kept_reading(found))
    find_sources(paths, has_times(found) if timestamps is None else timestamps)
    import_models()
    how = Reader(chunk, weights, adapt, rate)
    figures = _figures(found, paths, timestamps, how, options)
    if as_json:
        print(json.dumps(figures))
        return
    learning = ", learning on while it reads" if adapt else ""
    print(f"{figures['bits_per_byte']:.4f} bits per byte over {figures['bytes']:,} bytes{learning}")
    print(
        f"{figures['nats_per_token']:.4f} nats per token, perplexity {figures['perplexity']:,.2f} per token"
    )
    if "time_nats_per_event" in figures:
        when, events = figures["time_nats_per_event"], figures["events"]
        print(f"{when:.4f} nats per event for the times ({events:,} events, times in seconds)")
    print(f"{figures['tokens_per_second']:,.0f} tokens/s over {figures['tokens']:,} tokens")
    print(f"{figures['peak_memory_bytes'] / 2**20:,.0f} MiB peak memory of the process")
    print(f"{figures['state_bytes']:,} bytes of state")


class Reader(NamedTuple):
    """How the text is read: tokens per pass, type of the weights, and whether and how fast they learn."""

    chunk: int
    weights: Literal["float32", "bf16", "int8"]
    adapt: bool
    rate: float


def _figures(
    folder: Path, paths: list[str], timestamps: bool | None, how: Reader, options: ReadingOptions
) -> dict[str, int | float]:
    """The figures of a model on a text; `timestamps` None uses its times if the model has a time head."""
    from rich.console import Console

    from ..inference.evaluate import evaluate
    from ..inference.saving import load_language_model
    from ..inference.timed_text import check_times
    from ..model.step import LiquidStep
    from ..runtime.memory import peak_memory
    from ..runtime.precision import best_device, bf16_is_faster
    from ..text.corpus import read_documents
    from ..text.tokenization import tokenize_documents

    model, tokenizer = load_language_model(folder, best_device())
    if timestamps:
        check_times(model, folder)
    facts: list[ReadingFacts] = []
    try:
        timed = model.time_head is not None if timestamps is None else timestamps
        documents = list(read_documents(paths, timestamps=timed, options=options, found=facts.append))
    except LiquidError as error:
        if timestamps is not None or not ("no time" in str(error) or '"time"' in str(error)):
            raise
        raise LiquidError(
            f"{error} ({folder} was trained with times: add them, or evaluate the text alone with"
            " --no-timestamps)"
        ) from error
    reading.say_notes(facts)
    corpus = tokenize_documents(documents, tokenizer)
    total = corpus.tokens.size
    with Console(stderr=True, highlight=False).status(f"reading {total:,} tokens") as status:
        given: dict[str, Any] = {
            "eos_token_id": tokenizer.eos_token_id,
            "progress": lambda done: status.update(f"read {done:,} of {total:,} tokens"),
        }
        if how.adapt:
            from ..training.adaptation import evaluate_learning

            result = evaluate_learning(model, corpus, rate=how.rate, **given)
        else:
            step = LiquidStep(model, weights=how.weights) if model.device.type == "cpu" else None
            bf16 = bf16_is_faster(model.device)
            result = evaluate(model, corpus, chunk=how.chunk, bf16=bf16, step=step, **given)
    learning: dict[str, int | float] = {"learning_rate": how.rate} if how.adapt else {}
    return {**result.summary(), **learning, "peak_memory_bytes": peak_memory()}
