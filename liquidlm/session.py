"""What the command line does with a trained model: write from a prompt, judge by a text."""

import json
import time
import zlib
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console

from .corpus import read_documents
from .data import tokenize_documents
from .errors import LiquidError
from .evaluate import evaluate, peak_memory
from .folder import load_model
from .generate import Sampling, read, write
from .model import LiquidTextGenerationModel
from .precision import best_device, bf16_is_faster
from .signals import stop_signals
from .state import LiquidCache
from .step import LiquidStep
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
    verbose: bool = False,
) -> None:
    """Print text that goes on from `prompt`, as it is written; several samples are parted by a line.

    Ctrl-C ends the writing between two tokens; the state is saved all the same.
    """
    if save_state is not None:
        if samples > 1:
            raise LiquidError("--save-state keeps the state of one text: use it without --samples")
        _probe(save_state)
    console = Console(stderr=True, highlight=False)
    model, tokenizer = load_model(folder, best_device())
    state, pending = _begin(model, tokenizer, load_state)
    if not pending and not prompt:
        raise LiquidError(f"the text of {load_state} had come to its end: give a prompt to go on")
    ids = torch.tensor([[*pending, *tokenizer.encode(prompt).tolist()]], device=model.device)
    begin = time.perf_counter()
    logits = _read_prompt(model, ids, state, console)
    if verbose:
        seconds = time.perf_counter() - begin
        console.print(f"read {ids.shape[1]:,} tokens in {seconds:.2f} s; state {state.nbytes:,} bytes")
    written: list[int] = []
    step = LiquidStep(model, state.table)
    for number in range(samples):
        seed = None if sampling.seed is None else sampling.seed + number
        if samples > 1:
            print(f"--- sample {number + 1}")
        own = state if number + 1 == samples else state.copy()
        begin, written = time.perf_counter(), []
        decoder = tokenizer.stream()
        print(prompt if len(prompt) <= ECHO else "…" + prompt[-ECHO:], end="", flush=True)
        draws, stop = replace(sampling, seed=seed), [tokenizer.eos_token_id]
        with stop_signals() as stopped:
            for token in write(model, logits, own, draws, max_new_tokens, context=ids, stop=stop, step=step):
                written.append(int(token))
                print(decoder.push(written[-1]), end="", flush=True)
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
        state.save(save_state, pending=json.dumps(pending), model=fingerprint(model))
        console.print(f"state in {save_state}: go on with --load-state {save_state}")


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
) -> tuple[LiquidCache, list[int]]:
    """A state to read the prompt into, and the tokens that come before it."""
    if load_state is None:
        state, pending = model.new_state(), [tokenizer.bos_token_id]
    else:
        state, metadata = LiquidCache.load(load_state, len(model.blocks))
        if metadata.get("model") != fingerprint(model):
            raise LiquidError(f"{load_state} is the state of another model than the one in this folder")
        pending = json.loads(metadata["pending"])
    state.table = model.fold()
    return state, pending


def _read_prompt(
    model: LiquidTextGenerationModel, ids: torch.Tensor, state: LiquidCache, console: Console
) -> torch.Tensor:
    if ids.shape[1] < LONG:
        return read(model, ids, state)
    total = ids.shape[1]
    with console.status(f"reading {total:,} tokens") as status:
        return read(
            model, ids, state, progress=lambda done: status.update(f"read {done:,} of {total:,} tokens")
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
