"""Is a long context used? Bits per byte of held-out novels by position, the state carried or reset.

    python -m benchmarks.long_context [--text novels-en] [--peer llama]

Takes the models that `benchmarks.quality` trained. Ours reads each held-out novel from the first to the last
byte with its state carried, then with the state reset every 2,048, 8,192 and 32,768 tokens; the peer sees
windows of the length it was trained on, moved on by half.
"""

import argparse
import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from safetensors.torch import load_model
from torch import Tensor

from benchmarks.language_models import LanguageModel
from benchmarks.learning import Trial, weights_file
from benchmarks.machine import read_results, write_results
from benchmarks.peers import OURS, build
from benchmarks.plots import redraw
from benchmarks.texts import TEXTS
from liquidlm import LEDTokenizerWrapper
from liquidlm.runtime.precision import autocast

NAME = "long_context"
RESETS = [2048, 8192, 32768]
EDGES = [0, 2**10, 2**11, 2**12, 2**13, 2**14, 2**15, 2**16, 2**17, 2**18, 2**19, 2**20]
"""Positions between which bits per byte are averaged."""


def trained(text: str, model: str) -> tuple[LanguageModel, Trial]:
    """The longest-trained model of this name that is still on disk."""
    trials = [entry for entry in read_results("quality").get("trials", {}).values() if "failed" not in entry]
    names = Trial.__dataclass_fields__
    found = [Trial(**{name: entry[name] for name in names}) for entry in trials if entry["model"] == model]
    found = [each for each in found if each.text == text and weights_file(each).exists()]
    if not found:
        raise SystemExit(f"no weights of {model} on {text}: run python -m benchmarks.quality --text {text}")
    last = max(found, key=lambda each: each.steps)
    network = build(model, LEDTokenizerWrapper.bytes().vocab_size, last.length)
    load_model(network, str(weights_file(last)))
    return network.eval(), last


@torch.no_grad()
def surprise(model: LanguageModel, ids: Int[Tensor, " n"], reset: int, bf16: bool) -> Float[Tensor, " n"]:
    """Nats of every byte after the first, given all before it since the last reset."""
    nats = torch.zeros(len(ids) - 1)
    for first, last, judged in windows(len(ids) - 1, reset, model.carries):
        state = None
        for begin in range(first, last, 4096 if model.carries else last - first):
            end = min(begin + 4096, last) if model.carries else last
            with autocast(ids.device, bf16):
                logits, state = model.logits(ids[None, begin:end], state)
            log_p = logits[0].float().log_softmax(-1).gather(1, ids[begin + 1 : end + 1, None])[:, 0]
            keep = max(judged - begin, 0)
            nats[begin + keep : end] = -log_p[keep:]
    return nats


def windows(length: int, size: int, carries: bool) -> Iterator[tuple[int, int, int]]:
    """(first, last, judged): what is read, and from where on it is judged; every position is judged once."""
    step = size if carries else size // 2
    for first in range(0, max(1, length - (size - step)), step):
        yield first, min(first + size, length), first if first == 0 else first + size - step


def by_position(novels: list[Float[Tensor, " n"]]) -> dict[str, float]:
    """Bits per byte of all novels together between each two of EDGES."""
    found = {}
    for first, last in itertools.pairwise(EDGES):
        part = torch.cat([nats[first:last] for nats in novels])
        if len(part):
            found[str(first)] = part.double().mean().item() / math.log(2)
    return found


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog=NAME, description=__doc__)
    parser.add_argument("--text", default="novels-en", choices=["novels-en"])
    parser.add_argument("--peer", default="llama")
    given = parser.parse_args(argv)
    tokenizer = LEDTokenizerWrapper.bytes()
    documents = TEXTS[given.text][0]()["test"]
    novels = [
        torch.from_numpy(np.append(tokenizer.bos_token_id, tokenizer.encode(novel.text)).astype(np.int64))
        for novel in documents
    ]
    ours, own = trained(given.text, OURS)
    peer, other = trained(given.text, given.peer)
    runs: list[tuple[str, LanguageModel, Trial, int]] = [
        ("ours, state carried", ours, own, max(map(len, novels))),
        *((f"ours, reset every {reset:,}", ours, own, reset) for reset in RESETS),
        (f"{given.peer}, windows of {other.length:,}", peer, other, other.length),
    ]
    results: dict[str, Any] = {}
    for name, model, trial, reset in runs:
        results[name] = by_position([surprise(model, novel, reset, trial.bf16) for novel in novels])
        print(name, {first: round(bits, 4) for first, bits in results[name].items()}, flush=True)
    read = [Path(novel.source).name for novel in documents]
    write_results(NAME, {"novels": read, "bits_per_byte_from": results})
    redraw(NAME)


if __name__ == "__main__":
    main()
