"""What the command line does with a trained model: write from a prompt, judge by a text."""

import time
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
from .precision import bf16_is_faster
from .state import LiquidCache
from .tokenizer import LEDTokenizerWrapper

NOTICE = 20_000
"""Prompts longer than so many tokens show how the reading goes."""


def generate_text(
    folder: Path,
    prompt: str,
    sampling: Sampling,
    *,
    max_new_tokens: int,
    samples: int = 1,
    save_state: Path | None = None,
    load_state: Path | None = None,
    verbose: bool = False,
) -> None:
    """Print text that goes on from `prompt`, as it is written; several samples are parted by a line."""
    if save_state is not None and samples > 1:
        raise LiquidError("--save-state keeps the state of one text: use it without --samples")
    console = Console(stderr=True, highlight=False)
    model, tokenizer = load_model(folder)
    state, pending = _begin(model, tokenizer, load_state)
    ids = torch.tensor([[*pending, *tokenizer.encode(prompt).tolist()]])
    begin = time.perf_counter()
    logits = _read_prompt(model, ids, state, console)
    if verbose:
        seconds = time.perf_counter() - begin
        console.print(f"read {ids.shape[1]:,} tokens in {seconds:.2f} s; state {state.nbytes:,} bytes")
    written: list[int] = []
    for number in range(samples):
        draws = (
            sampling
            if sampling.seed is None
            else Sampling(**{**vars(sampling), "seed": sampling.seed + number})
        )
        if samples > 1:
            print(f"--- sample {number + 1}")
        own = state if number + 1 == samples else state.copy()
        begin, written = time.perf_counter(), []
        decoder = tokenizer.stream()
        print(prompt if ids.shape[1] < NOTICE else "…", end="", flush=True)
        for token in write(
            model, logits, own, draws, max_new_tokens, context=ids, stop=[tokenizer.eos_token_id]
        ):
            written.append(int(token))
            print(decoder.push(written[-1]), end="", flush=True)
        print(decoder.flush())
        if verbose:
            pace = (time.perf_counter() - begin) / len(written)
            console.print(f"wrote {len(written):,} tokens, {1000 * pace:.2f} ms each")
    if save_state is not None:
        state.save(save_state, pending=str(written[-1]), vocab_size=str(tokenizer.vocab_size))
        console.print(f"state in {save_state}: go on with --load-state {save_state}")


def _begin(
    model: LiquidTextGenerationModel, tokenizer: LEDTokenizerWrapper, load_state: Path | None
) -> tuple[LiquidCache, list[int]]:
    """A state to read the prompt into, and the tokens that come before it."""
    if load_state is None:
        state, pending = model.new_state(), [tokenizer.bos_token_id]
    else:
        state, metadata = LiquidCache.load(load_state, len(model.blocks))
        if metadata.get("vocab_size") != str(tokenizer.vocab_size):
            raise LiquidError(f"{load_state} is the state of a model with another vocabulary")
        pending = [int(metadata["pending"])]
    state.table = model.fold()
    return state, pending


def _read_prompt(
    model: LiquidTextGenerationModel, ids: torch.Tensor, state: LiquidCache, console: Console
) -> torch.Tensor:
    if ids.shape[1] < NOTICE:
        return read(model, ids, state)
    total = ids.shape[1]
    with console.status(f"reading {total:,} tokens") as status:
        return read(
            model, ids, state, progress=lambda done: status.update(f"read {done:,} of {total:,} tokens")
        )


def evaluate_text(folder: Path, paths: list[str], chunk: int) -> dict[str, int | float]:
    """The figures of `liquidlm eval`."""
    documents = list(read_documents(paths))
    model, tokenizer = load_model(folder)
    corpus = tokenize_documents(documents, tokenizer)
    console = Console(stderr=True, highlight=False)
    total = len(corpus.tokens)
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
