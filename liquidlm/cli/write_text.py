"""What `liquidlm generate` does with a prompt: it prints the prompt and the text that follows."""

from pathlib import Path

from ..errors import LiquidError
from ..inference.sampling import Sampling
from ..inference.saving import load_language_model
from ..inference.timed_text import check_times
from ..ops.native.step import Weights
from ..runtime.precision import best_device
from ..runtime.signals import stop_signals
from .text_so_far import begin_text, say
from .writer import Writer

ECHO = 2_000
"""Of longer prompts only the last characters are printed before what is written."""


def generate_text(
    writer: Writer,
    prompt: str,
    *,
    samples: int = 1,
    save_state: Path | None = None,
    load_state: Path | None = None,
    after: float | None = None,
) -> int:
    """Print text that continues `prompt` while it is written.

    Ctrl-C and SIGTERM end it between two tokens, or two pieces of the prompt, and so does a standard output
    that cannot be written. The state of what was read and written is saved then, too.

    Args:
        writer: its max_new_tokens may be 0: only the state of the prompt is kept.
        samples: number of texts, each after the same prompt.
        after: seconds of silence between the prompt and the text, of a writer with timestamps.

    Returns:
        the signal that ended it, or 0.

    Raises:
        LiquidError: the state cannot be read or written, or its text has ended and there is no prompt.
    """
    text = begin_text(writer.model, writer.tokenizer, load_state)
    if not text.tokens and not prompt:
        raise LiquidError(f"the text of {load_state} has ended: give a prompt to continue it")
    given = writer.prompt(text, prompt, after)
    shown = given.shown if len(given.shown) <= ECHO else "…" + given.shown[-ECHO:]
    with stop_signals(insistent=save_state is None) as stopped:
        try:
            if writer.read(text, given, stopped):
                writer.write(text, given, stopped, shown, samples)
        finally:
            if save_state is not None:
                text.save(save_state, writer.model, writer.tokenizer, writer.timestamps)
    return stopped[0] if stopped else 0


def open_writer(
    folder: Path,
    sampling: Sampling,
    max_new_tokens: int,
    timestamps: bool,
    verbose: bool,
    weights: Weights,
) -> Writer:
    """A writer with the model in `folder`; LiquidError if it is to write times and its model has none."""
    model, tokenizer = load_language_model(folder, best_device())
    if timestamps:
        check_times(model, folder)
    elif model.time_head is not None:
        say(f"{folder} was trained with times: without --timestamps all tokens are one unit apart")
    return Writer(model, tokenizer, sampling, max_new_tokens, timestamps, verbose, weights)
