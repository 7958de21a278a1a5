"""Learning from a stream of tokens while it is read: the weights change after every block of tokens."""

import math
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from ..model.language_model import LiquidLanguageModel
from .online_optimiser import OnlineOptimiser
from .pace import MOST_ROWS, check_pace

BLOCK = 512
"""Tokens of a row of an update."""
KEPT = 256 * BLOCK
"""Tokens that are kept to be learned again."""


class OnlineLearner:
    """Updates a model's weights from the tokens that it has read.

    The tokens are cut into blocks of BLOCK. Each block is one row of an update, and the model goes on from
    the state after the block before. Further rows read again, in order, what was read before; at its end, or
    if it is no longer kept, a row goes on at a random place. A model with counts of a training text counts
    each block after that, learned or not. All is exact: the same tokens give the same weights, however they
    are divided into calls.

    Args:
        model: changed in place. It learns as it is in evaluation mode, without dropout.
        rate: peak learning rate (see `OnlineOptimiser`).
        budget: tokens that are learned per token that is read. Up to 1 it is the share of the blocks that are
            learned; above, it is a whole number of rows.

    Attributes:
        model: as given.
        learned: number of tokens that were learned, counted again each time.

    Raises:
        LiquidError: rate or budget is out of range.
    """

    def __init__(self, model: LiquidLanguageModel, rate: float, budget: float = 1.0):
        check_pace(rate, budget)
        self.model, self.budget = model, budget
        self.rows = max(1, int(budget))
        self.learned = self._blocks = 0
        self._begin = self._at = 0  # of what is kept, and of the next block, in tokens of the stream
        self._places = [0] * (self.rows - 1)
        self._fresh = [True] * self.rows
        self._state = model.new_state()
        self._ids = np.zeros(0, dtype=np.int64)
        self._times: Float64[np.ndarray, " n"] | None = None
        self._optimiser = OnlineOptimiser(model, rate)
        self._marked, self._before = self._place(), None

    @property
    def updates(self) -> int:
        """Number of updates so far."""
        return self._optimiser.updates

    @property
    def begun(self) -> bool:
        """Whether there was a token."""
        return self._begin + len(self._ids) > 0

    def add(self, ids: Int64[np.ndarray, " n"], times: Float64[np.ndarray, " n"] | None) -> None:
        """Count the next tokens of the stream, and their times, as read."""
        self._ids = np.concatenate([self._ids, ids])
        if times is not None:
            self._times = np.concatenate([times[:0] if self._times is None else self._times, times])

    @property
    def missing(self) -> int:
        """Tokens that must still be read before the next block is whole; 0 or less if it is."""
        return self._at + BLOCK + 1 - self._begin - len(self._ids)

    def learn(self) -> bool:
        """Learn the next whole block, if the budget includes it; returns whether it was learned."""
        share, self._blocks = min(1.0, self.budget), self._blocks + 1
        chosen = math.floor(self._blocks * share) > math.floor((self._blocks - 1) * share)
        if chosen:
            self._update([self._at, *self._places])
            self._places = [self._next(row, place + BLOCK) for row, place in enumerate(self._places, 1)]
        self._fresh[0] = not chosen
        self._count()
        self._at += BLOCK
        forgotten = max(0, self._at - KEPT) - self._begin
        if forgotten > 0:
            self._begin += forgotten
            self._ids = self._ids[forgotten:]
            self._times = None if self._times is None else self._times[forgotten:]
        return chosen

    def _count(self) -> None:
        """Count the next block into the counts of the training text."""
        counts = self.model.counts
        if counts is None or counts.training_counts is None:
            return
        if self._before is None:
            self._before = self._changing()
        ids, first = torch.from_numpy(self._ids), self._at - self._begin
        starts = torch.zeros(0 if self._at else 1, dtype=torch.long)
        counts.count_training_text(ids[first : first + BLOCK], starts, ids[:first])

    def _next(self, row: int, place: int) -> int:
        """Where a row of old tokens reads next: at `place`, if all of it was read and is kept."""
        first = max(self._begin, self._at + BLOCK - KEPT)
        self._fresh[row] = not first <= place <= self._at
        if self._fresh[row]:
            place = random.Random(self._blocks * MOST_ROWS + row).randint(first, self._at)
        return place

    def _update(self, places: list[int]) -> None:
        """One step of the optimisers on the blocks at these places. If it is not finite, nothing changes."""
        if self._before is None:
            self._before = self._changing()
        device = self.model.output_proj.weight.device
        ids = self._rows(self._ids, places)
        more: dict[str, Tensor] = {}
        if self._times is not None:
            times = self._rows(self._times, places)
            more = {"timestamps": times[:, :-1].to(device), "shift_timestamps": times[:, 1:].to(device)}
        starts = torch.zeros(len(places), BLOCK, dtype=torch.bool)
        starts[:, 0] = torch.tensor(self._fresh)
        output = self.model(
            ids[:, :-1].to(device),
            starts=starts.to(device),
            past_key_values=self._state.detach_(),
            use_cache=True,
            shift_labels=ids[:, 1:].to(device),
            skip_logits=True,
            **more,
        )
        output.loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        finite = bool(torch.isfinite(output.loss + norm))
        if finite:
            self._optimiser.step()
        self.model.zero_grad(set_to_none=True)
        if not finite:
            self._state, self._fresh = self.model.new_state(), [True] * self.rows
        self.learned += starts.numel()

    def _rows(self, values: np.ndarray, places: list[int]) -> Tensor:
        """The block at each of the places, and the token after it."""
        begins = [place - self._begin for place in places]
        return torch.from_numpy(np.stack([values[begin : begin + BLOCK + 1] for begin in begins]))

    # ---- what is kept, and what is taken back

    def mark(self) -> None:
        """Begin what `undo` takes back."""
        self._marked, self._before = self._place(), None

    def undo(self) -> None:
        """Take back all since `mark`: tokens and updates."""
        numbers, ids, times = self._marked
        if self._before is not None:
            self.model.zero_grad(set_to_none=True)
            self._load(self._before, numbers["rows_read"])
        self._set(numbers)
        self._ids, self._times = ids, times

    def tensors(self) -> dict[str, Tensor]:
        """Weights, optimisers, the rows' states and the kept tokens, for safetensors."""
        kept = {"kept.ids": torch.from_numpy(self._ids.copy())}
        if self._times is not None:
            kept["kept.times"] = torch.from_numpy(self._times.copy())
        return {**self._changing(), **kept}

    def numbers(self) -> dict[str, Any]:
        """All else, for JSON."""
        return self._place()[0]

    def restore(self, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        """Go on where `tensors` and `numbers` were taken, of a learner of the same model.

        With another number of rows, the rows begin again.

        Raises:
            KeyError, ValueError, IndexError, TypeError: they are not a learner's, or another model's.
        """
        if numbers["block"] != BLOCK:
            raise ValueError(f"blocks of {numbers['block']} tokens")
        self._load(tensors, numbers["rows_read"])
        self._set(numbers)
        self._ids = tensors["kept.ids"].numpy()
        self._times = tensors["kept.times"].numpy() if "kept.times" in tensors else None
        if len(self._fresh) != self.rows:
            self._state, self._fresh = self.model.new_state(), [True] * self.rows
            self._places = [self._next(row, -1) for row in range(1, self.rows)]

    def _place(self) -> tuple[dict[str, Any], np.ndarray, np.ndarray | None]:
        numbers = {
            "block": BLOCK,
            "updates": self.updates,
            "learned": self.learned,
            "blocks": self._blocks,
            "begin": self._begin,
            "at": self._at,
            "places": list(self._places),
            "fresh": list(self._fresh),
            "rows_read": self._state.get_seq_length(),
        }
        return numbers, self._ids, self._times

    def _set(self, numbers: dict[str, Any]) -> None:
        self._optimiser.updates, self.learned = int(numbers["updates"]), int(numbers["learned"])
        self._blocks, self._begin, self._at = (int(numbers[name]) for name in ("blocks", "begin", "at"))
        self._places, self._fresh = list(numbers["places"]), list(numbers["fresh"])

    def _changing(self) -> dict[str, Tensor]:
        """Copies of what an update changes."""
        found = {f"weights.{name}": value for name, value in _weights(self.model)}
        found |= {f"optimiser.{name}": value for name, value in self._optimiser.tensors.items()}
        found |= {f"rows.{name}": value for name, value in self._state.tensors().items()}
        return {name: value.detach().clone() for name, value in found.items()}

    @torch.no_grad()
    def _load(self, tensors: dict[str, Tensor], rows_read: int) -> None:
        for name, parameter in _weights(self.model):
            value = tensors[f"weights.{name}"]
            if value.shape != parameter.shape:
                raise ValueError(f"{name} is {tuple(value.shape)}, not {tuple(parameter.shape)}")
            parameter.copy_(value)
        self._optimiser.tensors = named(tensors, "optimiser.")
        self._state = self.model.new_state()
        if rows := named(tensors, "rows."):
            self._state.load_tensors(rows, rows_read)


def _weights(model: LiquidLanguageModel) -> Iterator[tuple[str, Tensor]]:
    """By name, all of a model that changes when it learns: its parameters, and counts of a training text."""
    yield from model.named_parameters()
    if model.counts is not None and model.counts.training_counts is not None:
        yield "counts.training_counts", model.counts.training_counts


def named(tensors: dict[str, Tensor], begin: str) -> dict[str, Tensor]:
    """The tensors whose names begin with `begin`, under the rest of their names."""
    return {name.removeprefix(begin): one for name, one in tensors.items() if name.startswith(begin)}
