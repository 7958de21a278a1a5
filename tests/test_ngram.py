"""Embeddings of the last tokens together, against a loop in Python."""

import itertools

import pytest
import torch
from helpers import randomise

from liquidlm.errors import LiquidError
from liquidlm.nn.events import Events
from liquidlm.nn.ngram import FACTOR, PRIME, NGramEmbedding
from liquidlm.nn.state import fresh_time

B, T, V, H = 3, 23, 11, 6
CPU = torch.device("cpu")


def make(rows: int = 7, longest: int = 4) -> NGramEmbedding:
    return randomise(NGramEmbedding(H, rows, 5, longest).double())


def events(starts: torch.Tensor, real: torch.Tensor | None = None) -> Events:
    batch, length = starts.shape
    return Events.build(None, fresh_time(batch, CPU), length=length, start=starts, real=real)


def reference(ngrams: NGramEmbedding, documents: list[list[int]]) -> torch.Tensor:
    """Every token of every document, n by n."""
    out = []
    for document in documents:
        for i in range(len(document)):
            parts, hashed = [], 0
            for back in range(ngrams.longest):
                token = document[i - back] + 1 if i >= back else 0
                hashed = (hashed * FACTOR + token) % PRIME
                if back:
                    row = hashed % ngrams.rows + (back - 1) * ngrams.rows
                    parts.append(ngrams.table.weight[row])
            out.append(ngrams.proj.weight @ torch.cat(parts))
    return torch.stack(out)


@pytest.fixture
def text() -> tuple[torch.Tensor, torch.Tensor, list[list[list[int]]]]:
    """ids, where documents start, and the documents row by row; one begins right after another."""
    ids, starts = torch.randint(0, V, (B, T)), torch.zeros(B, T, dtype=torch.bool)
    cuts = [[0], [0, 1, 9], [0, 4, 5, 7]]
    rows = []
    for row, begins in enumerate(cuts):
        starts[row, begins] = True
        ends = [*begins[1:], T]
        rows.append([ids[row, a:b].tolist() for a, b in zip(begins, ends, strict=True)])
    return ids, starts, rows


@pytest.mark.parametrize("longest", [2, 3, 4, 6])
@pytest.mark.parametrize("cuts", [[0, T], [0, 1, 2, 5, 9, 10, T]])
def test_is_the_loop_in_any_pieces(text, longest: int, cuts: list[int]) -> None:
    ids, starts, documents = text
    ngrams, now, out = make(longest=longest), events(starts), []
    past = ngrams.no_past(B, CPU)
    for a, b in itertools.pairwise(cuts):
        found, past = ngrams(ids[:, a:b], now.part(slice(a, b)), past)
        out.append(found)
    expected = torch.stack([reference(ngrams, row) for row in documents])
    torch.testing.assert_close(torch.cat(out, 1), expected, rtol=0, atol=1e-12)
    for row, last in enumerate(documents):  # what a next call needs, and no more
        kept = ([0] * longest + [token + 1 for token in last[-1]])[1 - longest :]
        assert past[row].tolist() == kept


def test_gradients_are_the_loop_s(text) -> None:
    ids, starts, documents = text
    ngrams = make()
    weight = torch.randn(B, T, H, dtype=torch.float64)
    (ngrams(ids, events(starts), ngrams.no_past(B, CPU))[0] * weight).sum().backward()
    found = [p.grad for p in ngrams.parameters()]
    ngrams.zero_grad()
    expected = torch.stack([reference(ngrams, row) for row in documents])
    (expected * weight).sum().backward()
    for a, p in zip(found, ngrams.parameters(), strict=True):
        torch.testing.assert_close(a, p.grad, rtol=0, atol=1e-12)


def test_padding_at_the_end_is_not_kept() -> None:
    ngrams, ids = make(), torch.randint(0, V, (2, 9))
    real = torch.ones(2, 9, dtype=torch.bool)
    real[0, 5:] = False
    real[1, 1:] = False
    starts = torch.zeros(2, 9, dtype=torch.bool)
    _, past = ngrams(ids, events(starts, real), ngrams.no_past(2, CPU))
    assert past.tolist() == [(ids[0, 2:5] + 1).tolist(), [0, 0, int(ids[1, 0]) + 1]]


def test_hashes_spread() -> None:
    """At least as many rows are hit as chance would hit, and long tokens' ids do not overflow."""
    ngrams = NGramEmbedding(H, 1000, 2, 3)
    grams = torch.cartesian_prod(torch.arange(1, 41), torch.arange(1, 41), torch.tensor([2**31 - 5]))
    slots = ngrams.slots(grams)
    assert bool(((slots >= 0) & (slots < 2000)).all())
    assert bool((slots[:, 0] < 1000).all()) and bool((slots[:, 1] >= 1000).all())
    for order in range(2):
        used = slots[:, order].unique().numel()
        assert used / 1000 > (1 - (1 - 1 / 1000) ** 1600) - 0.08


@pytest.mark.parametrize(("sizes", "name"), [((0, 4, 4), "rows"), ((8, 0, 4), "dim"), ((8, 4, 1), "longest")])
def test_sizes_that_cannot_be(sizes: tuple[int, int, int], name: str) -> None:
    with pytest.raises(LiquidError, match=f"{name} must be"):
        NGramEmbedding(H, *sizes)
