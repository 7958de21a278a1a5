"""What the command line does with a trained model: write from a prompt, judge by a text."""

import copy
import json
import time
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from .corpus import read_documents
from .data import tokenize_documents
from .errors import LiquidError
from .evaluate import evaluate, peak_memory
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
        _probe(save_state)
    console = Console(stderr=True, highlight=False)
    model, tokenizer = load_model(folder, best_device())
    if timestamps:
        _check_times(model, folder)
    state, pending, pending_times = _begin(model, tokenizer, load_state)
    if not pending and not prompt:
        raise LiquidError(f"the text of {load_state} had come to its end: give a prompt to go on")
    times, lines = None, None
    if timestamps:
        now = None if load_state is None else max([float(state.last_time[0]), *pending_times])
        events = prompt_events(prompt, now, after)
        encoded = tokenizer.encode_all([event.text for event in events])
        runs = zip(events, encoded, strict=True)
        own = [(token, event.time) for event, run in runs for token in run.tolist()]
        begins = now if now is not None else events[0].time if events else 0.0
        every = [*((token, begins) for token in pending), *own]
        ids = torch.tensor([[token for token, _ in every]], device=model.device)
        times = torch.tensor([[at for _, at in every]], dtype=torch.float64, device=model.device)
        lines = TimedLines()
        prompt = "".join(lines.push(event.text, event.time) for event in events)
    else:
        ids = torch.tensor([[*pending, *tokenizer.encode(prompt).tolist()]], device=model.device)
    begin = time.perf_counter()
    output = _read_prompt(model, ids, state, times, console)
    if verbose:
        seconds = time.perf_counter() - begin
        console.print(f"read {ids.shape[1]:,} tokens in {seconds:.2f} s; state {state.nbytes:,} bytes")
    written: list[int] = []
    at = 0.0
    step = LiquidStep(model, state.table)
    for number in range(samples):
        seed = None if sampling.seed is None else sampling.seed + number
        if samples > 1:
            print(f"--- sample {number + 1}")
        own = state if number + 1 == samples else state.copy()
        begin, written = time.perf_counter(), []
        decoder = tokenizer.stream()
        print(prompt if len(prompt) <= ECHO else "…" + prompt[-ECHO:], end="", flush=True)
        how: dict[str, Any] = {"context": ids, "stop": [tokenizer.eos_token_id], "step": step}
        draws, shown = replace(sampling, seed=seed), copy.copy(lines)
        if shown is None:
            logits = output.logits[:, -1].float()
            writing = ((token, 0.0) for token in write(model, logits, own, draws, max_new_tokens, **how))
        else:
            writing = write_timed(model, output, own, draws, max_new_tokens, **how)
        with stop_signals() as stopped:
            for token, drawn in writing:
                written.append(int(token))
                at, said = float(drawn), decoder.push(written[-1])
                print(said if shown is None else shown.push(said, at), end="", flush=True)
                if stopped:
                    break
        print(decoder.flush())
        if verbose:
            pace = (time.perf_counter() - begin) / len(written)
            console.print(f"wrote {len(written):,} tokens, {1000 * pace:.2f} ms each")
            console.print(f"peak memory {peak_memory() / 2**20:,.0f} MiB")
        if stopped:
            break
    if save_state is not None:
        # The last token is still to be read; one that ends a document is not: the text may go on.
        pending = [token for token in written[-1:] if token != tokenizer.eos_token_id]
        whens = [at for _ in pending] if timestamps else []
        state.save(
            save_state,
            pending=json.dumps(pending),
            pending_times=json.dumps(whens),
            model=fingerprint(model),
        )
        console.print(f"state in {save_state}: go on with --load-state {save_state}")


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
    lines = prompt.splitlines()
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


def _probe(file: Path) -> None:
    """LiquidError now, not after a long prompt, if the file cannot be written."""
    part = file.with_name(file.name + ".part")
    try:
        part.touch()
        part.unlink()
    except OSError as error:
        raise LiquidError(f"cannot write the state to {file}: {error.strerror}") from error


def _begin(
    model: LiquidTextGenerationModel, tokenizer: LEDTokenizerWrapper, load_state: Path | None
) -> tuple[LiquidCache, list[int], list[float]]:
    """A state to read the prompt into, the tokens that come before it, and their times if they have any."""
    times = []
    if load_state is None:
        state, pending = model.new_state(), [tokenizer.bos_token_id]
    else:
        state, metadata = LiquidCache.load(load_state, len(model.blocks))
        if metadata.get("model") != fingerprint(model):
            raise LiquidError(f"{load_state} is the state of another model than the one in this folder")
        pending, times = json.loads(metadata["pending"]), json.loads(metadata.get("pending_times", "[]"))
    state.table = model.fold()
    return state, pending, times


def _read_prompt(
    model: LiquidTextGenerationModel,
    ids: torch.Tensor,
    state: LiquidCache,
    times: torch.Tensor | None,
    console: Console,
) -> Any:
    if ids.shape[1] < LONG:
        return read_output(model, ids, state, times)
    total = ids.shape[1]
    with console.status(f"reading {total:,} tokens") as status:
        return read_output(
            model,
            ids,
            state,
            times,
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
