"""The exact memory: what followed the same words before, mixed into the prediction of the network.

Symbols: B rows, T tokens, V vocabulary, K levels, L lines of a table, N longest order.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Int32
from torch import Tensor, nn

from ..errors import LiquidError
from ..ops import Counted, count_contexts, count_text
from ..ops.counts import ENTRIES, MOST
from .table_sizes import check_tables

PIECE = 1 << 20
"""Tokens of a text that are counted at a time."""
FEATURES, WIDTH = 7, 16
"""Inputs and width of the net that weighs the counts."""


class Levels(NamedTuple):
    """What the tables hold about each context, one level per table and order.

    Attributes:
        tokens: what followed; 0 where an entry is free.
        counts: how often, 0 where an entry is free.
    """

    tokens: Int[Tensor, "*b k 16"]
    counts: Float[Tensor, "*b k 16"]

    def without(self, targets: Int[Tensor, "*b"], which: slice) -> "Levels":
        """The same, each target counted once less in some levels."""
        own = (self.tokens == targets[..., None, None]) & (self.counts > 0)
        counts = self.counts.clone()
        counts[..., which, :] -= own[..., which, :].to(counts)
        return Levels(self.tokens, counts)


class CountMemory(nn.Module):
    """Counts of what followed the last n tokens, for several n, in tables of fixed size.

    One table is part of the state: it has the document so far. Another can be of the training text; it
    belongs to the model, and all rows read it. A longer context is counted only where the shorter one was met
    before (see `ops/counts.py`). A level is one table and one n, in the order of n; at each n the training
    text comes first. Level k has counted the token v c_k(v) times, and c_k tokens in all. From
    the network's p_0 on, each level mixes its counts with the distribution of the level before (MacKay & Peto
    1995, "A Hierarchical Dirichlet Language Model"):

        p_k(v) = (c_k(v) + e_k p_{k−1}(v)) / (c_k + e_k),    k = 1…K

    So every p_k is a distribution. e_k > 0 is the weight of the level before. A small net computes it from
    the counts, and from the probabilities that p_0 gives to the counted tokens. It never sees the target.

    In training mode, each target is counted once less in the table of the training text. This table has the
    text that the model trains on, so without this the model would find the answer at the place that it reads.

        >>> memory = CountMemory([1, 2], lines=64).eval()
        >>> ids, start = torch.tensor([[5, 6, 7, 5, 6]]), torch.tensor([[True, *[False] * 4]])
        >>> counted = memory.read(ids, start, None, *memory.empty(1))
        >>> memory.log_probs(torch.zeros(1, 5, 9), counted.found)[0, -1].argmax()  # 7 came after 5, 6
        tensor(7)

    Args:
        orders: the lengths n of the contexts, rising.
        lines: L, lines of the state's table, a power of 2, or 0 for none. Each has 64 bytes and 16 entries.
        training_lines: lines of the training text's table, a power of 2, or 0 for none.

    Raises:
        LiquidError: a size out of these ranges, or no table at all.

    Attributes:
        training_counts: (lines, 16) the table of the training text; None if there is none.
    """

    training_counts: Int32[Tensor, "p 16"] | None

    def __init__(self, orders: Sequence[int], lines: int = 4096, training_lines: int = 0):
        super().__init__()
        check_tables(orders, lines, training_lines)
        self.orders, self.lines = list(orders), lines
        empty = torch.zeros(training_lines, ENTRIES, dtype=torch.int32) if training_lines else None
        self.register_buffer("training_counts", empty)
        tables = (training_lines > 0) + (lines > 0)
        self.of_training = slice(0, None if training_lines else 0, tables)
        levels = len(orders) * tables
        self.of_features = nn.Linear(FEATURES, WIDTH)
        self.of_level = nn.Parameter(torch.zeros(levels, WIDTH))
        self.inner = nn.Linear(WIDTH, WIDTH)
        self.weight = nn.Linear(WIDTH, 1, bias=False)
        self.bias = nn.Parameter(torch.zeros(levels))
        nn.init.zeros_(self.weight.weight)

    def empty(
        self, batch: int, device: torch.device | None = None
    ) -> tuple[Int32[Tensor, "b l 16"] | None, Int[Tensor, "b n"]]:
        """The table and the context before the first token.

        Args:
            batch: B, the number of rows.
            device: of both; None is torch's default device.

        Returns:
            the empty table (B, lines, 16), None if `lines` is 0, and the context (B, n), n the highest order.
        """
        table = torch.zeros(batch, self.lines, ENTRIES, dtype=torch.int32, device=device)
        context = torch.zeros(batch, self.orders[-1], dtype=torch.long, device=device)
        return table if self.lines else None, context

    @torch.no_grad()
    def read(
        self,
        ids: Int[Tensor, "b t"],
        start: Bool[Tensor, "b t"],
        real: Bool[Tensor, "b t"] | None,
        table: Int32[Tensor, "b l 16"] | None,
        context: Int[Tensor, "b n"],
    ) -> Counted:
        """What is found after each token; table and context after them.

        Args:
            ids: the tokens.
            start: where documents start.
            real: false where padded, at the end of a row; None if no position is.
            table, context: of the tokens before.
        """
        lengths = torch.full_like(ids[:, 0], ids.shape[1]) if real is None else real.sum(1)
        return count_contexts(ids, start, lengths, context, table, self.training_counts, self.orders)

    @torch.no_grad()
    def count_training_text(
        self, ids: Int[Tensor, " t"], starts: Int[Tensor, " d"], before: Int[Tensor, " n"] | None = None
    ) -> None:
        """Count a text into the table of the training text.

        Args:
            ids: of all documents, one after the other.
            starts: the position of each document's first token.
            before: the tokens before `ids`, as many as are known, if `ids` go on with a document.

        Raises:
            LiquidError: the model has no such table.
        """
        if self.training_counts is None:
            raise LiquidError("this model has no counts of a training text: build it with training_lines")
        begins = torch.zeros(len(ids), dtype=torch.bool)
        begins[starts] = True
        table = self.training_counts.cpu()
        context = torch.zeros(self.orders[-1], dtype=torch.long)
        if before is not None:
            last = before[-len(context) :]
            context[len(context) - len(last) :] = last + 1
        for part, start in zip(ids.split(PIECE), begins.split(PIECE), strict=True):
            count_text(part, start, context, table, self.orders)
        if table is not self.training_counts:
            self.training_counts.copy_(table)

    def log_probs(
        self, logits: Float[Tensor, "*b v"], found: Int32[Tensor, "*b k 16"]
    ) -> Float[Tensor, "*b v"]:
        """ln p_K of every token.

        Args:
            logits: of the network.
            found: as `read` returned it, at the same positions.
        """
        log_p = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)
        levels = _levels(found)
        of_counted = log_p.detach().gather(-1, levels.tokens.flatten(-2)).view_as(levels.counts)
        rest, shares = self._shares(of_counted, levels)
        counted = (levels.counts * shares[..., None]).flatten(-2)
        mass = torch.zeros_like(log_p).scatter_add(-1, levels.tokens.flatten(-2), counted.to(log_p))
        return _add_mass(log_p + rest[..., None], mass)

    def nats(
        self,
        log_p: Float[Tensor, " n"],
        of_counted: Float[Tensor, "n k 16"],
        found: Int32[Tensor, "n k 16"],
        targets: Int[Tensor, " n"],
    ) -> Float[Tensor, " n"]:
        """−ln p_K of targets.

        Args:
            log_p: ln p_0 of the targets.
            of_counted: ln p_0 of the tokens that were found (`counted_tokens`).
            found: as `read` returned it.
            targets: the right tokens.
        """
        levels = _levels(found)
        if self.training and self.training_counts is not None:
            levels = levels.without(targets, self.of_training)
        rest, shares = self._shares(of_counted, levels)
        own = levels.counts * (levels.tokens == targets[:, None, None])
        return -_add_mass(log_p + rest, (own.sum(-1) * shares).sum(-1))

    def _shares(
        self, of_counted: Float[Tensor, "*b k 16"], levels: Levels
    ) -> tuple[Float[Tensor, "*b"], Float[Tensor, "*b k"]]:
        """p_K(v) = e^rest p_0(v) + Σ_k share_k c_k(v): the recursion, solved. Returns rest and shares."""
        total = levels.counts.sum(-1)
        weight = self._weights(of_counted, levels, total)
        both = torch.logaddexp(total.log(), weight)
        kept = torch.where(total > 0, weight - both, 0.0)
        after = kept.flip(-1).cumsum(-1).flip(-1)  # of this level and all above it
        return after[..., 0], torch.where(total > 0, (after - kept - both).exp(), 0.0)

    def _weights(
        self, of_counted: Float[Tensor, "*b k 16"], levels: Levels, total: Float[Tensor, "*b k"]
    ) -> Float[Tensor, "*b k"]:
        """ln e of each level."""
        most, which = levels.counts.max(-1)
        likely = levels.tokens.gather(-1, which[..., None])
        foretold = of_counted.gather(-1, which[..., None])[..., 0].clamp(min=-15.0) / 4
        mass = (of_counted.exp() * (levels.counts > 0)).sum(-1).clamp(1e-6, 1.0).log() / 4
        newest = (levels.counts > 0).to(torch.int8).argmax(-1, keepdim=True)
        features = (
            total.log1p(),
            (levels.counts > 0).sum(-1).to(total).log1p(),
            (total - most).log1p(),
            most.log1p(),
            foretold,
            mass,
            (levels.tokens.gather(-1, newest) == likely)[..., 0].to(total),
        )
        x = torch.stack(features, -1).to(of_counted)
        with torch.autocast(x.device.type, enabled=False):
            x = F.silu(_linear(self.of_features, x) + self.of_level.to(x))
            return _linear(self.weight, F.silu(_linear(self.inner, x)))[..., 0] + self.bias.to(x)


def counted_tokens(found: Int32[Tensor, "*b k 16"]) -> Int[Tensor, "*b k 16"]:
    """The tokens of entries that `CountMemory.read` has found; 0 where an entry is free."""
    return (found // (MOST + 1)).long()


def _linear(layer: nn.Linear, x: Float[Tensor, "*b i"]) -> Float[Tensor, "*b o"]:
    """The layer in the type of x, which may be wider."""
    return F.linear(x, layer.weight.to(x), None if layer.bias is None else layer.bias.to(x))


def _add_mass(log_p: Float[Tensor, "*b"], mass: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    """ln(e^log_p + mass), with a gradient also where the mass is 0."""
    counted = mass > 0
    return torch.where(counted, torch.logaddexp(log_p, mass.masked_fill(~counted, 1.0).log()), log_p)


def _levels(found: Int32[Tensor, "*b k 16"]) -> Levels:
    return Levels(counted_tokens(found), (found & MOST).to(torch.float32))
