"""`liquidlm generate`: write on from a prompt."""

from pathlib import Path
from typing import Annotated

import typer

from ..errors import LiquidError
from ..inference.defaults import WEIGHTS
from ..inference.model_folders import check_model
from ..inference.sampling import Sampling
from ..inference.state_places import GENERATE, check_place, check_state
from ..text.clock.instants import LARGEST_TIME
from ..text.reading import ReadingOptions
from . import reading_options as reading
from .arguments import FOLDER_HELP, Weights, naming_options
from .model_imports import import_models
from .prompt import is_interactive, model_and_prompt, read_prompt

Folder = Annotated[str | None, typer.Argument(metavar="[DIR]", help=f"{FOLDER_HELP} Default: stories.")]
Prompt = Annotated[
    str | None,
    typer.Argument(
        metavar="[PROMPT]",
        help="Text to continue. If there is text from a pipe or from < FILE, that text comes first, and the"
        " prompt starts a new line after it. In a shell loop (while read …), add < /dev/null. Otherwise the"
        " rest of the loop's input becomes part of the prompt.",
    ),
]
PromptFile = Annotated[Path | None, typer.Option(metavar="F", help="Read the prompt from a file.")]
MaxNewTokens = Annotated[
    int,
    typer.Option(help="Stop after this many tokens. With --save-state, 0 only reads the prompt."),
]
Temperature = Annotated[float, typer.Option(help="0 always takes the most likely token.")]
TopK = Annotated[int, typer.Option(help="Sample from the k most likely tokens. 0: from all tokens.")]
TopP = Annotated[float, typer.Option(help="Sample from the most likely tokens with this total probability.")]
RepetitionPenalty = Annotated[float, typer.Option(help="A value above 1 reduces repetition.")]
Seed = Annotated[int | None, typer.Option(help="The same seed gives the same text.")]
Samples = Annotated[int, typer.Option(help="Number of texts, each from the same prompt.")]
SaveState = Annotated[
    Path | None,
    typer.Option(metavar="F", help="Save the state after the text. --load-state continues from it."),
]
LoadState = Annotated[
    Path | None,
    typer.Option(metavar="F", help="Continue from a saved state. Its text is not read again."),
]
Timestamps = Annotated[
    bool,
    typer.Option(
        "--timestamps",
        help="Write each line with its time. The model must be trained with --timestamps. Lines of the prompt"
        " can begin with a time.",
    ),
]
After = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        help="With --timestamps: add a silence of this many seconds after the prompt, then a new line.",
    ),
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Print sizes and rates on standard error.")]


def generate(
    folder: Folder = None,
    prompt: Prompt = None,
    file: PromptFile = None,
    max_new_tokens: MaxNewTokens = 300,
    temperature: Temperature = 0.8,
    top_k: TopK = 0,
    top_p: TopP = 0.95,
    repetition_penalty: RepetitionPenalty = 1.0,
    seed: Seed = None,
    samples: Samples = 1,
    save_state: SaveState = None,
    load_state: LoadState = None,
    timestamps: Timestamps = False,
    after: After = None,
    weights: Weights = WEIGHTS,
    encoding: reading.Encoding = None,
    errors: reading.Errors = None,
    verbose: Verbose = False,
) -> None:
    """Continue a prompt, and print the text token by token.

    Without a folder, the command uses the bundled model `stories`, and says so. A prompt can be as long
    as a book, because the model reads it in pieces into a state of constant size. In a terminal, the command
    without a prompt starts an interactive session. Type a line, and the model continues it. Your next line
    continues the same text.

        liquidlm generate "Once upon a time"

        cat notes.txt | liquidlm generate runs/novel "And so it began:"

        liquidlm generate runs/novel --file novel.txt --save-state novel.state

        liquidlm generate runs/novel --load-state novel.state "Chapter the Last"

        liquidlm generate runs/apollo --timestamps "CC: Stand by." --after 240
    """
    options = _reading(file, encoding, errors)
    with naming_options(Sampling.__annotations__):
        sampling = Sampling(temperature, top_k, top_p, repetition_penalty, seed)
    name, prompt = model_and_prompt(folder, prompt)
    session = prompt is None and file is None and is_interactive()
    _check_after_and_samples(after, samples, timestamps, session)
    _check_request(max_new_tokens, samples, save_state, load_state)
    found = check_model(name, times=timestamps)
    text = "" if session else read_prompt(prompt, file, load_state is None, options)
    if not (session or text or max_new_tokens or load_state):
        raise LiquidError("there is nothing to save: give a prompt")
    import_models()
    from .session import run_session
    from .write_text import generate_text, open_writer

    states = {"save_state": save_state, "load_state": load_state}
    writer = open_writer(found, sampling, max_new_tokens, timestamps, verbose, weights)
    if session:
        signal = run_session(writer, **states)
    else:
        signal = generate_text(writer, text, samples=samples, after=after, **states)
    if signal:
        raise typer.Exit(128 + signal)


def _reading(file: Path | None, encoding: str | None, errors: str | None) -> ReadingOptions:
    """How the file of the prompt is read."""
    given = {"encoding": encoding, "errors": errors}
    given = {name: value for name, value in given.items() if value is not None}
    if given and file is None:
        raise LiquidError(f"--{min(given)} needs --file: it says how that file is read")
    return ReadingOptions.of(**given)


def _check_request(
    max_new_tokens: int, samples: int, save_state: Path | None, load_state: Path | None
) -> None:
    """LiquidError for options that contradict each other, and for files that cannot be written or read."""
    if samples < 1:
        raise LiquidError(f"--samples must be at least 1, not {samples}")
    if save_state is not None:
        if samples > 1:
            raise LiquidError("--save-state keeps the state of one text: use it without --samples")
        check_place(save_state, GENERATE)
    if load_state is not None:
        check_state(load_state, GENERATE)
    least = 1 if save_state is None else 0
    if max_new_tokens < least:
        more = "" if least == 0 else " (0 only with --save-state, to save the state of the prompt)"
        raise LiquidError(f"--max-new-tokens must be at least {least}, not {max_new_tokens}{more}")


def _check_after_and_samples(after: float | None, samples: int, timestamps: bool, session: bool) -> None:
    if session and samples > 1:
        raise LiquidError("--samples needs a prompt: give one")
    if after is None:
        return
    if session:
        raise LiquidError("--after needs a prompt: give one")
    if not timestamps:
        raise LiquidError("--after needs --timestamps: add it, or leave --after out")
    if not 0 <= after <= LARGEST_TIME:
        raise LiquidError(f"--after must be a number of seconds from 0 to {LARGEST_TIME:g}, not {after}")
