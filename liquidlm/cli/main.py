"""The command line: train, generate, eval, inspect, watch, serve, export, bench."""

import json
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from transformers.utils import logging

from ..errors import LiquidError, printable
from ..inference.generate import Sampling
from ..inference.saving import find_folder, load_model
from ..inference.surprise import THRESHOLD
from ..inference.timed_text import check_times
from ..pretrained import STORIES, shipped_models
from ..runtime.allocator import keep_freed_memory
from ..runtime.startup import ready
from ..runtime.streams import READER_GONE, OutputLost, standard_streams
from ..text.corpus import read_documents
from ..text.event_files import FARTHEST
from .train import named_folder, train
from .write import check_asked, evaluate_text, generate_text

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""Continuous-time language models for very long text.

    A liquid model reads and writes at constant cost and memory per token: its state, not a window of past
    tokens, is all that it remembers.

    A small model of stories comes with it; training needs no data of yours to begin with:

        liquidlm generate "Once upon a time"

        liquidlm train --out runs/first --minutes 5

        liquidlm generate runs/first "The module provides"

        liquidlm eval runs/first my-text.txt

    Mistakes in what you give end with one line that says what is wrong, and exit code 2.
    """,
)

app.command()(train)

FOLDER_HELP = "Folder of a trained model, the --out of `train`; or `stories`, which comes with liquidlm."


@app.command()
def generate(
    folder: Annotated[str | None, typer.Argument(metavar="[DIR]", help=FOLDER_HELP)] = None,
    prompt: Annotated[
        str | None, typer.Argument(metavar="[PROMPT]", help="Text to go on from; - reads standard input.")
    ] = None,
    file: Annotated[Path | None, typer.Option(metavar="F", help="Read the prompt from a file.")] = None,
    max_new_tokens: Annotated[
        int, typer.Option(help="Stop after so many tokens; 0 with --save-state: keep the prompt alone.")
    ] = 300,
    temperature: Annotated[float, typer.Option(help="0 takes the likeliest token.")] = 0.8,
    top_k: Annotated[int, typer.Option(help="Draw from the k likeliest; 0: from all.")] = 0,
    top_p: Annotated[
        float, typer.Option(help="Draw from the likeliest that have this probability together.")
    ] = 0.95,
    repetition_penalty: Annotated[float, typer.Option(help="Over 1: repeat less.")] = 1.0,
    seed: Annotated[int | None, typer.Option(help="Same seed, same text.")] = None,
    samples: Annotated[int, typer.Option(help="How many texts, each from the same prompt.")] = 1,
    save_state: Annotated[
        Path | None, typer.Option(metavar="F", help="Keep what was read, and written, to go on later.")
    ] = None,
    load_state: Annotated[
        Path | None, typer.Option(metavar="F", help="Go on from there; nothing is read again.")
    ] = None,
    timestamps: Annotated[
        bool,
        typer.Option(
            "--timestamps",
            help="Write every line with its time, of a model trained with times; the prompt's lines may begin"
            " with theirs.",
        ),
    ] = False,
    after: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="With --timestamps: so long a silence follows the prompt; then a new line.",
        ),
    ] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Say sizes and rates on standard error.")
    ] = False,
) -> None:
    """Write on from a prompt, as it comes.

    Without a folder the model that comes with liquidlm writes: it knows simple stories. Prompts may be whole
    books: they are read in pieces into a state of constant size.

        liquidlm generate "Once upon a time"

        liquidlm generate runs/novel --file novel.txt --max-new-tokens 0 --save-state novel.state

        liquidlm generate runs/novel --load-state novel.state "Chapter the Last"

        liquidlm generate runs/apollo --timestamps "[00:10:00] CC: Stand by." --after 240
    """
    if samples < 1:
        raise LiquidError(f"--samples must be at least 1, not {samples}")
    if after is not None:
        if not timestamps:
            raise LiquidError("--after goes with --timestamps")
        if not 0 <= after <= FARTHEST:
            raise LiquidError(f"--after must be a number of seconds from 0 to {FARTHEST:g}, not {after}")
    sampling = Sampling(temperature, top_k, top_p, repetition_penalty, seed)
    folder, prompt = _model_and_prompt(folder, prompt)
    find_folder(folder)
    check_asked(max_new_tokens, samples, save_state)
    signal = generate_text(
        folder,
        _prompt(prompt, file, piped=load_state is None),
        sampling,
        max_new_tokens=max_new_tokens,
        samples=samples,
        save_state=save_state,
        load_state=load_state,
        timestamps=timestamps,
        after=after,
        verbose=verbose,
    )
    if signal:
        raise typer.Exit(128 + signal)


def _model_and_prompt(first: str | None, second: str | None) -> tuple[str, str | None]:
    """Which model, and the prompt: one argument alone that is no model, nor spelt as a path, is a prompt."""
    if first is not None and (second is not None or _is_model(first)):
        return first, second
    print(f"{STORIES}, the model that comes with liquidlm, writes", file=sys.stderr)
    return STORIES, first


def _is_model(word: str) -> bool:
    spelt_as_path = len(word.split()) == 1 and any(mark in word for mark in "/\\")
    return spelt_as_path or word in shipped_models() or os.path.isdir(word)


def _prompt(prompt: str | None, file: Path | None, piped: bool) -> str:
    """The prompt from where it was said to be; without a word, standard input if it is `piped` to."""
    if file is not None:
        if prompt is not None:
            raise LiquidError("give the prompt once: as an argument or with --file")
        return "\n".join(document.text for document in read_documents([file]))
    if prompt == "-" or (prompt is None and piped and not sys.stdin.isatty()):
        try:
            return sys.stdin.buffer.read().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise LiquidError(f"standard input is not UTF-8 text: byte {error.start} is wrong") from None
    try:  # what the locale could not decode is in the prompt as it was given
        return (prompt or "").encode("utf-8", "surrogateescape").decode("utf-8")
    except UnicodeDecodeError:
        raise LiquidError("the prompt is not UTF-8 text") from None


@app.command(name="eval")
def evaluate(
    folder: Annotated[str, typer.Argument(metavar="DIR", help=FOLDER_HELP)],
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH...", help="Text to judge the model by, as for `train`.")
    ],
    timestamps: Annotated[
        bool | None,
        typer.Option(
            "--timestamps/--no-timestamps",
            help="The text has times, as for `train`. [default: as the model was trained]",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    chunk: Annotated[
        int, typer.Option(help="Tokens per pass; memory, not the result, depends on it.")
    ] = 4096,
) -> None:
    """Bits per byte of whole documents, the state carried from first to last byte.

    Also perplexity per token, tokens per second, peak memory, and the size of the state.
    """
    if chunk < 1:
        raise LiquidError(f"--chunk must be at least 1, not {chunk}")
    figures = evaluate_text(folder, paths, chunk, timestamps)
    if as_json:
        print(json.dumps(figures))
        return
    print(f"{figures['bits_per_byte']:.4f} bits per byte over {figures['bytes']:,} bytes")
    print(
        f"{figures['nats_per_token']:.4f} nats per token, perplexity {figures['perplexity']:,.2f} per token"
    )
    if "time_nats_per_event" in figures:
        when, events = figures["time_nats_per_event"], figures["events"]
        print(f"{when:.4f} nats per event for when, over {events:,} events (per second)")
    print(f"{figures['tokens_per_second']:,.0f} tokens/s over {figures['tokens']:,} tokens")
    print(f"{figures['peak_memory_bytes'] / 2**20:,.0f} MiB peak memory of the process")
    print(f"{figures['state_bytes']:,} bytes of state")


@app.command()
def inspect(
    folder: Annotated[str, typer.Argument(metavar="DIR", help=FOLDER_HELP)],
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="Text with times, as for `train`; of several documents the first."
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="PNG", help="The plot. [default: FILE.png, here]")
    ] = None,
    first: Annotated[int, typer.Option("--from", help="Number of the first event drawn.")] = 0,
    events: Annotated[int, typer.Option(help="How many are drawn.")] = 40,
) -> None:
    """Draw what a model makes of a transcript, over its own time.

    The events and their gaps, the next gap as foretold against what came, time constants by layer, what is
    left of each head's memory, and what the reads attend to.

        liquidlm inspect runs/apollo flight.jsonl --from 200
    """
    from ..inference.inspection import draw, examine

    if first < 0 or events < 2:
        raise LiquidError("--from must be at least 0 and --events at least 2")
    model, tokenizer = load_model(folder)
    check_times(model, folder)
    document = next(read_documents(file, timestamps=True))
    print(draw(examine(model, tokenizer, document, first, events), out or Path(f"{file.stem}.png")))


@app.command()
def watch(
    folder: Annotated[str, typer.Argument(metavar="DIR", help=FOLDER_HELP)],
    state: Annotated[
        Path | None,
        typer.Option(
            metavar="F",
            help="Go on from this file if it is there; it is written now and then, and at the end.",
        ),
    ] = None,
    threshold: Annotated[
        float,
        typer.Option(
            help="A line stands out whose score is so many deviations over the mean; less: more do."
        ),
    ] = THRESHOLD,
    only_marked: Annotated[
        bool, typer.Option("--only-marked", help="Print only the lines that stand out.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object per line.")] = False,
) -> None:
    """Read a log for ever, and say how surprising each line is.

    Standard input, in constant memory: each line is printed as it comes, after its bits, and marked ▲ if it
    stands out. A model trained with --timestamps takes the times that the lines begin with, and prints how
    unlikely the gap before each was, in bits too.

        tail -f server.log | liquidlm watch runs/log --state log.state
    """
    from .watch import watch as watch_lines

    watch_lines(folder, state=state, threshold=threshold, only_marked=only_marked, as_json=as_json)


@app.command()
def serve(
    folder: Annotated[str, typer.Argument(metavar="[DIR]", help=FOLDER_HELP)] = STORIES,
    host: Annotated[
        str, typer.Option(help="Address to listen on; by default only this machine reaches it.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 8000,
    name: Annotated[
        str | None, typer.Option(help="What requests call the model. [default: the folder's name]")
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option(envvar="LIQUIDLM_API_KEY", help="Ask for this bearer token.", show_envvar=True),
    ] = None,
    rows: Annotated[int, typer.Option(help="Texts that are written at a time.")] = 32,
    waiting: Annotated[int, typer.Option(help="Texts that may wait beside them; more are refused.")] = 256,
    seconds: Annotated[float, typer.Option(help="The longest a text may take, waiting included.")] = 600.0,
    prompt_tokens: Annotated[int, typer.Option(help="The longest prompt.")] = 1 << 20,
    new_tokens: Annotated[int, typer.Option(help="The longest text written.")] = 1 << 16,
    cache_mb: Annotated[int, typer.Option(help="Memory for the states of prompts that were read.")] = 256,
) -> None:
    """Serve a model: an API like OpenAI's, and a page to try it.

    /v1/completions, /v1/chat/completions, /v1/models, /health; the page is at /. Many texts are written at a
    time, and a prompt that begins like an earlier one is not read again.

        liquidlm serve runs/novel --port 8000
    """
    try:
        from ..serve.limits import Limits
        from ..serve.server import serve as run
    except ImportError as error:
        raise LiquidError(f"serving needs more packages ({error}): pip install 'liquidlm[serve]'") from error
    positive = {"rows": rows, "seconds": seconds, "prompt_tokens": prompt_tokens, "new_tokens": new_tokens}
    for option, value in positive.items():
        if not 0 < value < math.inf:
            raise LiquidError(f"--{option.replace('_', '-')} must be over 0, not {value}")
    if api_key == "":
        raise LiquidError("--api-key is empty: give a key, or leave it out")
    if waiting < 1 or cache_mb < 0:
        raise LiquidError("--waiting must be at least 1 and --cache-mb at least 0")
    limits = Limits(
        prompt_tokens=prompt_tokens,
        new_tokens=new_tokens,
        rows=rows,
        waiting=waiting,
        seconds=seconds,
        cache_bytes=cache_mb << 20,
    )
    run(folder, host=host, port=port, name=name, api_key=api_key, limits=limits)


@app.command()
def export(
    folder: Annotated[str, typer.Argument(metavar="DIR", help=FOLDER_HELP)],
    out: Annotated[
        Path,
        typer.Option("--out", metavar="DIR", parser=named_folder, help="New folder for graph and tokenizer."),
    ],
) -> None:
    """Write one generation step as an ONNX graph with explicit state.

    For onnxruntime in any language: token, gap and state go in, logits and state come out; `step.json`
    describes them. The graph is run for 64 steps beside torch before it is kept.

        liquidlm export stories --out stories-onnx
    """
    from ..inference.export import export_onnx

    model, tokenizer = load_model(folder)
    worst = export_onnx(model, tokenizer, out)
    print(f"{out / 'step.onnx'}: over 64 steps its logits are torch's to {worst:.0e} of the largest")


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def bench(
    context_: typer.Context,
    name: Annotated[str, typer.Argument(help="Which; without it, the list of them.")] = "--list",
) -> None:
    """Run a benchmark against other models; results and plots go to benchmarks/results.

    For a clone of the repository: the installed package does not carry them. Options after the name are the
    benchmark's; `python -m benchmarks.run NAME --help` lists them.
    """
    try:
        from benchmarks.run import main as run
    except ImportError as error:
        raise LiquidError(
            f"the benchmarks cannot be run here ({error}): they are in the repository, not in the installed"
            " package; clone it, `make setup`, and run this there"
        ) from error
    raise typer.Exit(run([name, *context_.args]))


def main() -> None:
    """Run the command line; a user's mistake ends with one line and exit code 2."""
    ready()
    logging.disable_progress_bar()  # transformers' own, for loading a few files
    keep_freed_memory()
    with standard_streams():
        code = _exit_code(app)
        code = _exit_code(sys.stdout.flush) or code  # now, when a failure can still be told
    sys.exit(code)


def _exit_code(command: Callable[[], object]) -> int | str | None:
    """Run a command and say what ended it, if it is a mistake."""
    try:
        command()
    except SystemExit as end:
        return end.code
    except OutputLost as error:
        return READER_GONE if error.reader_gone else _refuse(error)
    except (LiquidError, OSError) as error:
        return _refuse(error)
    return 0


def _refuse(error: Exception) -> int:
    process = "" if os.environ.get("RANK", "0") == "0" else f"process {os.environ['RANK']}: "
    print(printable(f"{process}error: {error}"), file=sys.stderr)
    return 2
