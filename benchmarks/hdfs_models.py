"""Neural models of sessions: ours, and an LSTM as DeepLog's (Du et al. 2017)."""

import copy
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from liquidlm import LiquidConfig, LiquidTextGenerationModel
from liquidlm.training.optim import Optimisers, clip_gradients, liquid_optimisers

Session = tuple[int, ...]
Score = Callable[[Sequence[Session]], np.ndarray]
BEGIN, END = 0, 1
IGNORED = -100
BATCH = 64
"""Sessions of a step."""


class Batch(NamedTuple):
    """Sessions of like length: each event is predicted from those before it, and so is the end."""

    ids: Int[Tensor, "b t"]
    targets: Int[Tensor, "b t"]


class EventModel(nn.Module, ABC):
    """A model of a session's next event."""

    @abstractmethod
    def forward(self, ids: Int[Tensor, "b t"]) -> Float[Tensor, "b t v"]:
        """Logits of what follows each event."""

    def optimisers(self, lr: float) -> Optimisers:
        return Optimisers([(torch.optim.AdamW(self.parameters(), lr), lr)])


class Ours(EventModel):
    rates = (0.01, 0.02)

    def __init__(self, vocabulary: int):
        super().__init__()
        config = LiquidConfig(
            vocab_size=vocabulary,
            embedding_dim=16,
            latent_dim=8,
            hidden_size=64,
            num_hidden_layers=3,
            num_heads=2,
            intermediate_size=128,
            ngram_rows=0,
            dropout_rate=0.1,
            flow_loss_weight=0.0,
        )
        self.model = LiquidTextGenerationModel(config)

    def forward(self, ids: Int[Tensor, "b t"]) -> Float[Tensor, "b t v"]:
        output: Any = self.model(ids)
        return output.logits

    def optimisers(self, lr: float) -> Optimisers:
        return liquid_optimisers(self.model, lr, weight_decay=0.0)


class LSTM(EventModel):
    """Two layers of 64, as DeepLog's; it sees the whole session before an event, not its last ten."""

    rates = (0.003, 0.01, 0.03)

    def __init__(self, vocabulary: int):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, 64)
        self.lstm = nn.LSTM(64, 64, 2, batch_first=True, dropout=0.1)
        self.output = nn.Linear(64, vocabulary)

    def forward(self, ids: Int[Tensor, "b t"]) -> Float[Tensor, "b t v"]:
        return self.output(self.lstm(self.embedding(ids))[0])


def batches(sessions: Sequence[Session], place: dict[int, int]) -> Iterator[Batch]:
    """All sessions, those of like length together. An event without a place is the vocabulary's last."""
    rest = len(place) + 2
    ordered = sorted(sessions, key=len)
    for first in range(0, len(ordered), BATCH):
        full = [
            torch.tensor([BEGIN, *(place.get(event, rest) for event in one), END])
            for one in ordered[first : first + BATCH]
        ]
        yield Batch(
            pad_sequence([one[:-1] for one in full], batch_first=True),
            pad_sequence([one[1:] for one in full], batch_first=True, padding_value=IGNORED),
        )


def nats(model: EventModel, batch: Batch) -> Float[Tensor, "b t"]:
    """−ln p of each event; 0 where padded."""
    return F.cross_entropy(
        model(batch.ids).transpose(1, 2), batch.targets, ignore_index=IGNORED, reduction="none"
    )


class Learned(NamedTuple):
    """A trained model: its forms of a score, and how it was chosen."""

    forms: dict[str, Score]
    nats_apart: float
    epoch: int
    lr: float


def learn(
    kind: type[Ours] | type[LSTM],
    train: Sequence[Session],
    apart: Sequence[Session],
    seed: int,
    epochs: int = 20,
) -> Learned:
    """Train at each rate; the rate and the epoch with the least nats on the sessions apart are kept."""
    place = {event: i + 2 for i, event in enumerate(sorted({event for one in train for event in one}))}
    parts, judged = list(batches(train, place)), list(batches(apart, place))
    best: tuple[float, int, float, EventModel | None] = (float("inf"), 0, 0.0, None)
    for lr in kind.rates:
        torch.manual_seed(seed)
        order = random.Random(seed)
        model = kind(len(place) + 3).train()
        optimisers, step, steps = model.optimisers(lr), 0, epochs * len(parts)
        for epoch in range(epochs):
            for batch in order.sample(parts, len(parts)):
                count = (batch.targets != IGNORED).sum()
                (nats(model, batch).sum() / count).backward()
                clip_gradients(model.parameters())
                optimisers.step(step, step / steps)
                step += 1
            with torch.no_grad():
                model.eval()
                found = sum(nats(model, batch).sum().item() for batch in judged) / len(apart)
                model.train()
            if found < best[0]:
                best = (found, epoch + 1, lr, copy.deepcopy(model).eval())
    assert best[3] is not None
    return Learned(scores(best[3], place), best[0], best[1], best[2])


FORMS = ("largest", "sum", "mean", "excess", "tail", "rank")
"""Of −ln p: the largest, the sum and the mean; the largest beyond its mean under the model's distribution;
the largest −ln of the chance of all events as unlikely; the largest rank (DeepLog's top k)."""


@torch.no_grad()
def figures(
    model: EventModel, place: dict[int, int], sessions: Sequence[Session]
) -> Float[np.ndarray, "n forms"]:
    """The scores of each session in all FORMS."""
    where = sorted(range(len(sessions)), key=lambda i: len(sessions[i]))
    found = []
    for batch in batches(sessions, place):
        log_p, real = model(batch.ids).log_softmax(-1), batch.targets != IGNORED
        own = log_p.gather(-1, batch.targets.clamp(min=0)[..., None])
        costs, p = -own[..., 0] * real, log_p.exp()
        entropy = -(p * log_p).sum(-1)
        tail = -(p * (log_p <= own)).sum(-1).log()
        rank = (log_p > own).sum(-1).float()
        largest = [(one * real).amax(1) for one in (costs, costs - entropy, tail, rank)]
        total = costs.sum(1)
        found.append(torch.stack([largest[0], total, total / real.sum(1), *largest[1:]], 1))
    return torch.cat(found).numpy()[np.argsort(where)]


def scores(model: EventModel, place: dict[int, int]) -> dict[str, Score]:
    """The forms of a model's score."""

    def form(column: int) -> Score:
        return lambda given: figures(model, place, given)[:, column].astype(float)

    return {name: form(i) for i, name in enumerate(FORMS)}
