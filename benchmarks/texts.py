"""Real text to train on and to judge by, from a folder of data sets that the repository does not carry."""

import functools
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from liquidlm import LEDTokenizerWrapper
from liquidlm.text.batches import IGNORED
from liquidlm.text.corpus import Document, read_documents
from liquidlm.text.token_corpus import TokenCorpus
from liquidlm.text.tokenization import tokenize_documents

FOLDER = Path(os.environ.get("LIQUIDLM_DATA", Path(__file__).parents[2] / "shared" / "data"))
ROWS, BURN_IN = 16, 512
"""Held-out text is cut into so many rows; the first tokens of each give context and are not judged."""
HELD_OUT, GLANCE = 160_000, 40_000
"""Tokens of held-out text at most: at the end of a run, and on the way."""

Split = dict[str, list[Document]]


@dataclass(frozen=True)
class HeldOut:
    """Rows of contiguous held-out text.

    Attributes:
        ids, targets: tokens, and what follows each; −100 in the burn-in and where a document ends.
        text_bytes: of the judged targets, the denominator of bits per byte.
    """

    ids: Int[Tensor, "b t"]
    targets: Int[Tensor, "b t"]
    text_bytes: int


@dataclass(frozen=True)
class Text:
    """A data set under a tokenizer: a stream to train on; rows to look at on the way, to choose by, and to
    judge by."""

    tokenizer: LEDTokenizerWrapper
    train: TokenCorpus
    glance: HeldOut
    valid: HeldOut
    test: HeldOut


def _folder_split(name: str, pattern: str) -> Split:
    return {
        part: list(read_documents(str(FOLDER / name / part / pattern))) for part in ("train", "valid", "test")
    }


def _novels(name: str) -> Callable[[], Split]:
    return lambda: _folder_split(name, "*.txt")


def _wikitext() -> Split:
    parts = ("train", "valid", "test")
    return {part: list(read_documents(str(FOLDER / "wikitext-2" / f"{part}.txt"))) for part in parts}


def _shakespeare() -> Split:
    """nanoGPT's split: the last tenth is held out, and there is nothing to choose by but that."""
    (document,) = read_documents(str(FOLDER / "tinyshakespeare" / "input.txt"))
    cut = int(len(document.text) * 0.9)
    head, tail = (Document(text, document.source) for text in (document.text[:cut], document.text[cut:]))
    return {"train": [head], "valid": [tail], "test": [tail]}


def stories() -> Split:
    """Every twentieth story to choose by, the next to judge by; a story that comes twice is taken once."""
    stories = list(dict.fromkeys(story.strip() for story in _each_story()))
    parts: Split = {"train": [], "valid": [], "test": []}
    for number, story in enumerate(stories):
        part = {0: "valid", 1: "test"}.get(number % 20, "train")
        parts[part].append(Document(story, f"story {number}"))
    return parts


def _each_story() -> Iterator[str]:
    folder = FOLDER / "tinystories"
    sample = (folder / "toy-RNN_tinystories_sample.txt").read_text(encoding="utf-8")
    yield from sample.split("<|endoftext|>")[:-1]  # the last one is cut
    yield from json.loads((folder / "maxme1_tiny-stories.json").read_text(encoding="utf-8"))["texts"]


TEXTS = {
    "novels-en": (_novels("novels-en"), None),
    "wikitext-2": (_wikitext, None),
    "tinystories": (stories, 4000),
    **{f"tinystories-{size}": (stories, size) for size in (500, 1000, 2000, 8000)},
    "tinyshakespeare": (_shakespeare, None),
    "novels-es": (_novels("novels-es"), None),
}
"""Name ▶ how its documents are found, and the size of its BPE vocabulary (None: bytes)."""


@functools.cache
def load(name: str) -> Text:
    """A data set of TEXTS, tokenized; its BPE is learned from its training part."""
    if not FOLDER.is_dir():
        raise SystemExit(f"no data sets in {FOLDER}: set LIQUIDLM_DATA to the folder that holds {name}")
    find, size = TEXTS[name]
    split = find()
    tokenizer = LEDTokenizerWrapper.bytes()
    if size is not None:
        tokenizer = LEDTokenizerWrapper.train((document.text for document in split["train"]), size)
    train, valid, test = (tokenize_documents(split[part], tokenizer) for part in ("train", "valid", "test"))
    rows = ((valid, GLANCE), (valid, HELD_OUT), (test, HELD_OUT))
    return Text(tokenizer, train, *(held_out(corpus, tokenizer, limit) for corpus, limit in rows))


def held_out(corpus: TokenCorpus, tokenizer: LEDTokenizerWrapper, limit: int) -> HeldOut:
    """Rows from evenly spaced places of the corpus."""
    count = corpus.tokens.size
    length = min(limit, count - 1) // ROWS
    places = np.arange(ROWS)[:, None] * ((count - 1) // ROWS) + np.arange(length + 1)
    rows = torch.from_numpy(corpus.tokens[:][places].astype(np.int64))
    targets = rows[:, 1:].clone()
    targets[:, :BURN_IN] = IGNORED
    specials = (targets == tokenizer.bos_token_id) | (targets == tokenizer.eos_token_id)
    judged = [row[row != IGNORED].tolist() for row in targets.masked_fill_(specials, IGNORED)]
    return HeldOut(rows[:, :-1], targets, sum(len(tokenizer.decode(row).encode()) for row in judged))
