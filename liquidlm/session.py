"""What the command line does with a trained model: write from a prompt, judge by a text."""

import copy
import itertools
import json
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float64, Int
from rich.console import Console
from torch import Tensor

from .corpus import read_documents
from .data import tokenize_documents
from .errors import LiquidError
from .evaluate import evaluate, peak_memory
from .files import probe
from .folded import FoldedEmbedding
from .folder import load_model
from .generate import Sampling, read_output, write, write_timed
from .model import LiquidTextGenerationModel
from .precision import best_device, bf16_is_faster
from .signals import stop_signals
from .state import LiquidCache
from .step import LiquidStep
from .timed import Event, find_stamp, read_events, stamp
from .tokenizer import LEDTokenizerWrapper

LONG = 20_000
"""Prompts of more tokens show how the reading goes."""
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
) -> None:
    """Print text that goes on from `prompt`, as it is written; several samples are parted by a line.

    With `timestamps` every line is printed with its time, and `prompt` may have times (see `timed`); `after`
    puts the clock forward by so much before the writing. Ctrl-C ends the writing between two tokens; the
    state is saved all the same.
    """
    if save_state is not None:
        if samples > 1:
            raise LiquidError("--save-state keeps the state of one text: use it without --samples")
        probe(save_state)
    console = Console(stderr=True, highlight=False)
    model, tokenizer = load_model(folder, best_device())
    if timestamps:
        _check_times(model, folder)
    state, pending = _begin(model, tokenizer, load_state)
    if not pending and not prompt:
        raise LiquidError(f"the text of {load_state} had come to its end: give a prompt to go on")
    if timestamps:
        given = timed_prompt(prompt, tokenizer, pending, None if load_state is None else state, after)
    else:
        tokens = [*(told.token for told in pending), *tokenizer.encode(prompt).tolist()]
        given = Prompt(torch.tensor([tokens]), None, prompt, None)
    begin = time.perf_counter()
    table = FoldedEmbedding(model)
    output = _read_prompt(model, given, state, table, console)
    if verbose:
        seconds = time.perf_counter() - begin
        console.print(f"read {given.ids.shape[1]:,} tokens in {seconds:.2f} s; state {state.nbytes:,} bytes")
    how: dict[str, Any] = {
        "context": given.ids.to(model.device),
        "stop": [tokenizer.eos_token_id],
        "step": LiquidStep(model, table.rows()),
    }
    written: list[Told] = []
    for number in range(samples):
        seed = None if sampling.seed is None else sampling.seed + number
        if samples > 1:
            print(f"--- sample {number + 1}")
        own = state if number + 1 == samples else state.copy()
        begin = time.perf_counter()
        shown = given.shown if len(given.shown) <= ECHO else "…" + given.shown[-ECHO:]
        print(shown, end="", flush=True)
        draws = replace(sampling, seed=seed)
        if given.lines is None:
            logits = output.logits[:, -1].float()
            writing = ((token, 0.0) for token in write(model, logits, own, draws, max_new_tokens, **how))
        else:
            writing = write_timed(model, output, own, draws, max_new_tokens, **how)
        written, stopped = _print(writing, tokenizer, copy.copy(given.lines))
        if verbose:
            pace = (time.perf_counter() - begin) / len(written)
            console.print(f"wrote {len(written):,} tokens, {1000 * pace:.2f} ms each")
            console.print(f"peak memory {peak_memory() / 2**20:,.0f} MiB")
        if stopped:
            break
    if save_state is not None:
        # The last token is still to be read; one that ends a document is not: the text may go on.
        last = [told for told in written[-1:] if told.token != tokenizer.eos_token_id]
        state.save(
            save_state,
            pending=json.dumps([told.token for told in last]),
            pending_times=json.dumps([told.time for told in last if timestamps]),
            model=fingerprint(model),
        )
        console.print(f"state in {save_state}: go on with --load-state {save_state}")


class Told(NamedTuple):
    """A token and when; None where nobody said."""

    token: int
    time: float | None


class Prompt(NamedTuple):
    """What is read before the writing.

    Attributes:
        ids, times: of its tokens; no times without timestamps.
        shown: as it is printed.
        lines: what goes on to print the lines' times; None without.
    """

    ids: Int[Tensor, "1 t"]
    times: Float64[Tensor, "1 t"] | None
    shown: str
    lines: "TimedLines | None"


def timed_prompt(
    prompt: str,
    tokenizer: LEDTokenizerWrapper,
    pending: Sequence[Told] = (),
    goes_on: LiquidCache | None = None,
    after: float | None = None,
) -> Prompt:
    """With the times before its lines (see `prompt_events`), after `pending`, by default `<s>`, and what
    the state `goes_on` has read."""
    pending, now = pending or [Told(tokenizer.bos_token_id, None)], None
    if goes_on is not None:
        now = max([float(goes_on.last_time[0]), *(told.time for told in pending if told.time is not None)])
    events = prompt_events(prompt, now, after)
    begins = now if now is not None else events[0].time if events else 0.0
    every = [(told.token, begins) for told in pending]
    encoded = tokenizer.encode_all([event.text for event in events])
    for event, run in zip(events, encoded, strict=True):
        every += [(token, event.time) for token in run.tolist()]
    ids, times = zip(*every, strict=True)
    lines = TimedLines()
    shown = "".join(lines.push(event.text, event.time) for event in events)
    return Prompt(torch.tensor([ids]), torch.tensor([times], dtype=torch.float64), shown, lines)


def _print(
    writing: Iterator[tuple[Any, Any]], tokenizer: LEDTokenizerWrapper, lines: "TimedLines | None"
) -> tuple[list[Told], bool]:
    """Print tokens as they come; what they were, and whether Ctrl-C ended them."""
    written, decoder = [], tokenizer.stream()
    with stop_signals() as stopped:
        for token, drawn in writing:
            written.append(Told(int(token), float(drawn)))
            said = decoder.push(written[-1].token)
            print(said if lines is None else lines.push(said, float(drawn)), end="", flush=True)
            if stopped:
                break
    print(decoder.flush())
    return written, bool(stopped)


def _check_times(model: LiquidTextGenerationModel, folder: str | Path) -> None:
    if model.time_head is None:
        raise LiquidError(f"{folder} knows no times: train a model with --timestamps for that")


class TimedLines:
    """Text as it comes ▶ the same with its time before every line."""

    def __init__(self):
        self.fresh = True

    def push(self, text: str, time: float) -> str:
        """`text`, which is at this time."""
        shown = []
        for line in text.splitlines(keepends=True):
            shown.append(f"{stamp(time)} {line}" if self.fresh and line.strip("\r\n") else line)
            self.fresh = line.endswith("\n")
        return "".join(shown)


def prompt_events(prompt: str, now: float | None, after: float | None) -> list[Event]:
    """A prompt as events: at the times before its lines, or all `now` (0) where it has none; and a line break
    `after` it. What has times and goes on from something, at `now`, begins with a line break.

    Raises:
        LiquidError: some lines have times, and the first has none, or one before `now`.
    """
    lines = prompt.split("\n")  # no other breaks: a text may have them within a line
    if any(find_stamp(line) for line in lines):
        (read,) = read_events(lines, ".txt", "the prompt")
        events = [Event(time, f"\n{text}") for time, text in read]
        if now is None:
            events[0] = Event(events[0].time, events[0].text[1:])
        elif events[0].time < now:
            raise LiquidError(
                f"the prompt begins at {stamp(events[0].time)}, and what it goes on from ends at {stamp(now)}"
            )
    else:
        events = [Event(now or 0.0, prompt)] if prompt else []
    if after is not None:
        events.append(Event((events[-1].time if events else now or 0.0) + after, "\n"))
    return events


def _begin(
    model: LiquidTextGenerationModel, tokenizer: LEDTokenizerWrapper, load_state: Path | None
) -> tuple[LiquidCache, list[Told]]:
    """A state to read the prompt into, and the tokens that come before it."""
    if load_state is None:
        state, pending = model.new_state(), [Told(tokenizer.bos_token_id, None)]
    else:
        state, metadata = LiquidCache.load(load_state, len(model.blocks))
        if metadata.get("model") != fingerprint(model):
            raise LiquidError(f"{load_state} is the state of another model than the one in this folder")
        tokens, times = (json.loads(metadata.get(name, "[]")) for name in ("pending", "pending_times"))
        pending = [Told(token, time) for token, time in itertools.zip_longest(tokens, times)]
    return state, pending


def _read_prompt(
    model: LiquidTextGenerationModel,
    given: Prompt,
    state: LiquidCache,
    table: FoldedEmbedding,
    console: Console,
) -> Any:
    ids, total = given.ids.to(model.device), given.ids.shape[1]
    times = None if given.times is None else given.times.to(model.device)
    if total < LONG:
        return read_output(model, ids, state, times, table=table)
    with console.status(f"reading {total:,} tokens") as status:
        return read_output(
            model,
            ids,
            state,
            times,
            table=table,
            progress=lambda done: status.update(f"read {done:,} of {total:,} tokens"),
        )


def fingerprint(model: LiquidTextGenerationModel) -> str:
    """A checksum of the weights, so that a state is not read into another model."""
    total = 0
    for parameter in model.parameters():
        total = zlib.crc32(parameter.detach().float().cpu().numpy().tobytes(), total)
    return f"{total:08x}"


def evaluate_text(
    folder: str | Path, paths: list[str], chunk: int, timestamps: bool = False
) -> dict[str, int | float]:
    """The figures of `liquidlm eval`."""
    documents = list(read_documents(paths, timestamps=timestamps))
    model, tokenizer = load_model(folder, best_device())
    if timestamps:
        _check_times(model, folder)
    corpus = tokenize_documents(documents, tokenizer)
    console = Console(stderr=True, highlight=False)
    total = corpus.tokens.size
    with console.status(f"reading {total:,} tokens") as status:
        result = evaluate(
            model,
            corpus,
            eos_token_id=tokenizer.eos_token_id,
            chunk=chunk,
            bf16=bf16_is_faster(model.device),
            progress=lambda done: status.update(f"read {done:,} of {total:,} tokens"),
        )
    return {**result.summary(), "peak_memory_bytes": peak_memory()}
