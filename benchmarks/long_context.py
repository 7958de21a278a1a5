"""Is a long context used? Bits per byte of held-out novels: by position, and of rare words met before.

    python -m benchmarks.long_context [--text novels-en] [--models liquidlm llama] [--rows positions words]

Takes the models that `benchmarks.quality` trained. Ours reads each held-out novel with its state carried
from the first byte, then with the state reset every 2,048 bytes, and for the positions also every 8,192 and
32,768. A peer without a state sees windows of the length it was trained on, moved on by half. The positions
are of whole novels, the words (see `benchmarks.met_words`) of the first 262,144 bytes of each.
"""

import argparse
import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from safetensors.torch import load_model
from torch import Tensor

from benchmarks.language_models import LanguageModel
from benchmarks.learning import Trial, weights_file
from benchmarks.machine import add_results, machine, read_results
from benchmarks.met_words import Vocabulary, bits_per_byte, long_unseen, met_before, places, rare_words
from benchmarks.peers import MODELS, OURS, build
from benchmarks.plots import redraw
from benchmarks.texts import TEXTS
from liquidlm import LEDTokenizerWrapper
from liquidlm.runtime.precision import autocast
from liquidlm.text.corpus import Document

NAME = "long_context"
SHORT, RESETS = 2048, [2048, 8192, 32768]
PART = 2**18
"""Bytes of each novel whose words are judged."""
EDGES = [0, 2**10, 2**11, 2**12, 2**13, 2**14, 2**15, 2**16, 2**17, 2**18, 2**19, 2**20]
"""Positions between which bits per byte are averaged."""


def trained(text: str, model: str) -> tuple[LanguageModel, Trial]:
    """The longest-trained model of this name that is still on disk."""
    trials = [entry for entry in read_results("quality").get("trials", {}).values() if "failed" not in entry]
    names = Trial.__dataclass_fields__
    found = [Trial(**{name: entry[name] for name in names}) for entry in trials if entry["model"] == model]
    found = [each for each in found if each.text == text and weights_file(each).exists()]
    if not found:
        raise SystemExit(
            f'no weights of {model} on {text}: run liquidlm bench quality --text {text} --models "{model}"'
        )
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


class Run(NamedTuple):
    """A way to read: by a model, its state reset (or its windows long) so many bytes."""

    name: str
    model: LanguageModel
    bf16: bool
    reset: int


def ways(text: str, names: list[str], resets: list[int]) -> list[Run]:
    """Of a model with a state, the state carried and each reset; of any other, its windows."""
    found = []
    for name in names:
        model, trial = trained(text, name)
        how = {f"windows of {trial.length:,}": trial.length}
        if model.carries:
            how = {"state carried": 2**62, **{f"reset every {reset:,}": reset for reset in resets}}
        found += [Run(f"{name}, {what}", model, trial.bf16, reset) for what, reset in how.items()]
    return found


def ids_of(novel: Document) -> Int[Tensor, " n"]:
    """The mark of a beginning, and the bytes."""
    tokenizer = LEDTokenizerWrapper.bytes()
    return torch.from_numpy(np.append(tokenizer.bos_token_id, tokenizer.encode(novel.text)).astype(np.int64))


def positions(text: str, names: list[str]) -> dict[str, Any]:
    """Per run, bits per byte from each of EDGES on, of all novels to judge by."""
    novels = [ids_of(novel) for novel in TEXTS[text][0]()["test"]]
    return {
        run.name: by_position([surprise(run.model, ids, run.reset, run.bf16) for ids in novels])
        for run in ways(text, names, RESETS)
    }


def words(text: str, names: list[str]) -> dict[str, Any]:
    """Bits per byte of the rare words met before, and of those not met for long; how many there are."""
    split = TEXTS[text][0]()
    training = Vocabulary(document.text for document in split["train"])
    novels = [ids_of(novel)[: PART + 1] for novel in split["test"]]
    rare = [
        [word for word in rare_words(novel.text, training) if word.end < len(ids)]
        for novel, ids in zip(split["test"], novels, strict=True)
    ]
    kinds = {"met_before": met_before, "long_unseen": long_unseen}
    judged = {
        kind: [places(chosen(found), len(ids) - 1) for found, ids in zip(rare, novels, strict=True)]
        for kind, chosen in kinds.items()
    }
    judged["all_bytes"] = [torch.ones(len(ids) - 1, dtype=torch.bool) for ids in novels]
    bits = {}
    for run in ways(text, names, [SHORT]):
        nats = [surprise(run.model, ids, run.reset, run.bf16) for ids in novels]
        bits[run.name] = {kind: bits_per_byte(nats, inside) for kind, inside in judged.items()}
    return {
        "words": {kind: sum(len(chosen(found)) for found in rare) for kind, chosen in kinds.items()},
        "bits_per_byte": bits,
    }


def saved(bits: dict[str, dict[str, float]], kind: str) -> dict[str, float]:
    """Per model with a state, the share of bits that the carried state saves, 1 − carried / reset.

    >>> bits = {"a, state carried": {"all": 1.5}, "a, reset every 2,048": {"all": 2.0}}
    >>> saved(bits, "all")
    {'a': 0.25}
    """
    ends = ", state carried", f", reset every {SHORT:,}"
    carried, reset = (
        {name.removesuffix(end): each[kind] for name, each in bits.items() if name.endswith(end)}
        for end in ends
    )
    return {name: 1 - carried[name] / reset[name] for name in carried}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog=NAME, description=__doc__)
    parser.add_argument("--text", nargs="+", default=["novels-en"], choices=["novels-en", "novels-es"])
    parser.add_argument("--models", nargs="+", default=[OURS, "llama"], choices=list(MODELS), metavar="NAME")
    parser.add_argument("--rows", nargs="+", default=["positions", "words"], choices=["positions", "words"])
    given = parser.parse_args(argv)
    for text in given.text:
        novels = [Path(novel.source).name for novel in TEXTS[text][0]()["test"]]
        about = {"novels": novels, "commit": machine()["commit"]}
        if "words" in given.rows:
            found = words(text, given.models)
            print(f"{text}:", ", ".join(f"{count:,} {kind}" for kind, count in found["words"].items()))
            show(text, found["bits_per_byte"])
            for model, share in saved(found["bits_per_byte"], "met_before").items():
                print(f"{text} {model}: {share:.1%} fewer bits of words met before, carried against reset")
            add_results(NAME, "words_met_before", text, {**about, **found})
        if "positions" in given.rows:
            found = positions(text, given.models)
            show(text, found)
            add_results(NAME, "positions", text, {**about, "bits_per_byte": found})
    redraw(NAME)


def show(text: str, found: dict[str, dict[str, float]]) -> None:
    """Print a line per run."""
    for name, bits in found.items():
        print(f"{text} {name}:", {kind: round(each, 4) for kind, each in bits.items()}, flush=True)


if __name__ == "__main__":
    main()
