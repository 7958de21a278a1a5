"""What `liquidlm generate` does: it reads a prompt into the state, and prints the text that follows."""

import copy
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from ..errors import LiquidError
from ..inference.generate import Sampling, read_output, write, write_timed
from ..inference.saving import load_model
from ..inference.state_files import GENERATE, check_place
from ..inference.timed_text import Prompt, TimedLines, TimedToken, check_times, timed_prompt
from ..model.folded import FoldedEmbedding
from ..model.language_model import LiquidTextGenerationModel
from ..model.step import LiquidStep
from ..runtime.memory import peak_memory
from ..runtime.precision import best_device
from ..runtime.signals import stop_signals
from ..text.tokenizer import LEDTokenizerWrapper
from .text_so_far import TextSoFar, begin_text, say

LONG = 20_000
"""Prompts of more tokens show how the reading goes."""
PIECE = 2_048
"""Tokens of a prompt between two looks at signals."""
ECHO = 2_000
"""Of longer prompts only the last characters are printed before what is written."""


def generate_text(
    folder: str | Path,
    prompt: str,
    sampling: Sampling,
    *,
    max_new_tokens: int,
    samples: int = 1,
    save_state: Path | None = None,
    load_state: Path | None = None,
    timestamps: bool = False,
    after: float | None = None,
    verbose: bool = False,
) -> int:
    """Print text that goes on from `prompt`, as it is written; several samples are parted by a line.

    With `timestamps` every line is printed with its time, and `prompt` may have times (see `timed`); `after`
    puts the clock forward by so much before the writing.

    Ctrl-C and SIGTERM end it between two tokens, or two pieces of the prompt, and so does a standard output
    that takes no more; the state of what was read and written is saved all the same. With `max_new_tokens` 0
    that is all: a state of the prompt alone.

    Returns:
        the signal that ended it, or 0.
    """
    check_asked(max_new_tokens, samples, save_state)
    model, tokenizer = load_model(folder, best_device())
    if timestamps:
        check_times(model, folder)
    elif model.time_head is not None:
        say(f"{folder} lives in times: without --timestamps all tokens are one unit apart, as it never read")
    text, pending = begin_text(model, tokenizer, load_state)
    if not pending and not prompt:
        raise LiquidError(f"the text of {load_state} had come to its end: give a prompt to go on")
    if not max_new_tokens and not prompt and load_state is None:
        raise LiquidError("there is nothing to keep: give a prompt")
    if timestamps:
        given = timed_prompt(prompt, tokenizer, pending, None if load_state is None else text.state, after)
    else:
        tokens = [*(told.token for told in pending), *tokenizer.encode(prompt).tolist()]
        given = Prompt(torch.tensor([tokens]), None, prompt, None)
    text.tokens, table = given.tokens(), FoldedEmbedding(model)
    with stop_signals(insistent=save_state is None) as stopped:
        try:
            begin = time.perf_counter()
            _read_prompt(model, given, text, table, stopped)
            if verbose:
                seconds = time.perf_counter() - begin
                say(f"read {text.read:,} tokens in {seconds:.2f} s; state {text.state.nbytes:,} bytes")
            if text.read < len(text.tokens) - 1:
                text.cut(tokenizer, len(pending))
            else:
                asked = (sampling, max_new_tokens, samples, verbose)
                _write(model, tokenizer, given, text, table, stopped, *asked)
        finally:
            if save_state is not None:
                text.save(save_state, model, tokenizer, timestamps)
    return stopped[0] if stopped else 0


def check_asked(max_new_tokens: int, samples: int = 1, save_state: Path | None = None) -> None:
    """LiquidError for what cannot be done, before anything is read."""
    if save_state is not None:
        if samples > 1:
            raise LiquidError("--save-state keeps the state of one text: use it without --samples")
        check_place(save_state, GENERATE)
    least = 1 if save_state is None else 0
    if max_new_tokens < least:
        more = "" if least == 0 else " (0 with --save-state, which then keeps the prompt alone)"
        raise LiquidError(f"max_new_tokens must be at least {least}, not {max_new_tokens}{more}")


def _write(
    model: LiquidTextGenerationModel,
    tokenizer: LEDTokenizerWrapper,
    given: Prompt,
    text: TextSoFar,
    table: FoldedEmbedding,
    stopped: list[int],
    sampling: Sampling,
    max_new_tokens: int,
    samples: int,
    verbose: bool,
) -> None:
    """Print the prompt and what is written after it, `samples` times; the last is added to `text`."""
    shown = given.shown if len(given.shown) <= ECHO else "…" + given.shown[-ECHO:]
    if not max_new_tokens:
        print(shown, flush=True)
        return
    after = text.state.copy()
    times = None if given.times is None else given.times[:, -1:].to(model.device)
    output = read_output(model, given.ids[:, -1:].to(model.device), after, times, table=table)
    how: dict[str, Any] = {
        "context": torch.tensor([text.recent()], device=model.device),
        "stop": [tokenizer.eos_token_id],
        "step": LiquidStep(model, table.rows()),
    }
    for number in range(samples):
        draws = replace(sampling, seed=None if sampling.seed is None else sampling.seed + number)
        if samples > 1:
            print(f"--- sample {number + 1}")
        own, begin = after.copy(), time.perf_counter()
        print(shown, end="", flush=True)
        if given.lines is None:
            logits = output.logits[:, -1].float()
            writing = ((token, 0.0) for token in write(model, logits, own, draws, max_new_tokens, **how))
        else:
            writing = write_timed(model, output, own, draws, max_new_tokens, **how)
        written: list[TimedToken] = []
        try:
            _print(writing, tokenizer, copy.copy(given.lines), written, stopped)
        finally:
            if number + 1 == samples and written:
                text.add(written, own)
        if verbose:
            pace = (time.perf_counter() - begin) / len(written)
            say(f"wrote {len(written):,} tokens, {1000 * pace:.2f} ms each")
            say(f"peak memory {peak_memory() / 2**20:,.0f} MiB")
        if stopped:
            break


def _print(
    writing: Iterator[tuple[Any, Any]],
    tokenizer: LEDTokenizerWrapper,
    lines: TimedLines | None,
    written: list[TimedToken],
    stopped: list[int],
) -> None:
    """Print tokens as they come, and put them on `written`, up to the end or a signal."""
    decoder = tokenizer.stream()
    for token, drawn in writing:
        written.append(TimedToken(int(token), float(drawn)))
        said = decoder.push(written[-1].token)
        print(said if lines is None else lines.push(said, float(drawn)), end="", flush=True)
        if stopped:
            break
    print(decoder.flush(), flush=True)


def _read_prompt(
    model: LiquidTextGenerationModel,
    given: Prompt,
    text: TextSoFar,
    table: FoldedEmbedding,
    stopped: list[int],
) -> None:
    """Read all of a prompt but its last token into the state, in pieces, until a signal."""
    ids, total = given.ids.to(model.device), given.ids.shape[1] - 1
    times = None if given.times is None else given.times.to(model.device)
    console = Console(stderr=True, highlight=False)
    with console.status(f"reading {total:,} tokens") if total >= LONG else nullcontext() as status:
        for first in range(0, total, PIECE):
            if stopped:
                return
            part, state = slice(first, min(first + PIECE, total)), text.state.copy()
            read_output(model, ids[:, part], state, None if times is None else times[:, part], table=table)
            text.state, text.read = state, part.stop
            if status is not None:
                status.update(f"read {text.read:,} of {total:,} tokens")
