"""Neural models of sessions: ours, and an LSTM as DeepLog's (Du et al. 2017)."""

import random
from abc import ABC, abstractmethod
from collections import Counter
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
FAR = 4.0
"""Standard deviation of the places by which an event is moved."""


class Batch(NamedTuple):
    """Sessions of like length: each event is predicted from those before it, and so is the end."""

    ids: Int[Tensor, "b t"]
    targets: Int[Tensor, "b t"]
    weights: Float[Tensor, " b"]


class Vocabulary:
    """Events ▶ ids, and how often each id is a target. An event that is not known has the last id."""

    def __init__(self, train: Sequence[Session]):
        counts = Counter(event for one in train for event in one)
        self.place = {event: i + 2 for i, event in enumerate(sorted(counts))}
        # Half an event for what was never seen.
        often = [0.5, float(len(train)), *(float(counts[event]) for event in self.place), 0.5]
        self.shares = torch.tensor(often) / sum(often)

    def ids(self, one: Session) -> Int[Tensor, " t"]:
        rest = len(self.shares) - 1
        return torch.tensor([BEGIN, *(self.place.get(event, rest) for event in one), END])


class EventModel(nn.Module, ABC):
    """A model of a session's next event."""

    rates: tuple[float, ...]
    steps: int
    moves: bool
    """Whether it learns from sessions in which events are moved."""

    @abstractmethod
    def forward(self, ids: Int[Tensor, "b t"]) -> Float[Tensor, "b t v"]:
        """Logits of what follows each event."""

    def optimisers(self, lr: float) -> Optimisers:
        return Optimisers([(torch.optim.AdamW(self.parameters(), lr), lr)])


class Ours(EventModel):
    """liquidlm. Its logits say how much likelier an event is than its share of all events."""

    rates, steps, moves = (0.02,), 300, True

    def __init__(self, shares: Float[Tensor, " v"]):
        super().__init__()
        config = LiquidConfig(
            vocab_size=len(shares),
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
        self.usual = shares.log()

    def forward(self, ids: Int[Tensor, "b t"]) -> Float[Tensor, "b t v"]:
        output: Any = self.model(ids)
        return output.logits + self.usual

    def optimisers(self, lr: float) -> Optimisers:
        return liquid_optimisers(self.model, lr, weight_decay=0.0)


class LSTM(EventModel):
    """Two layers of 64, as DeepLog's; it sees the whole session before an event, not its last ten."""

    rates, steps, moves = (0.003, 0.01, 0.03), 400, False

    def __init__(self, shares: Float[Tensor, " v"]):
        super().__init__()
        self.embedding = nn.Embedding(len(shares), 64)
        self.lstm = nn.LSTM(64, 64, 2, batch_first=True, dropout=0.1)
        self.output = nn.Linear(64, len(shares))

    def forward(self, ids: Int[Tensor, "b t"]) -> Float[Tensor, "b t v"]:
        return self.output(self.lstm(self.embedding(ids))[0])


class MovedLSTM(LSTM):
    """The same, from the sessions that ours learns from."""

    moves = True


def moved(one: Session, draw: random.Random) -> Session:
    """Two events are moved by a few places: machines race, and their order tells little."""
    events = list(one)
    for _ in range(2):
        at = draw.randrange(len(events))
        event = events.pop(at)
        events.insert(max(0, min(len(events), at + round(draw.gauss(0, FAR)))), event)
    return tuple(events)


def batches(
    weights: dict[Session, float], known: Vocabulary, change: Callable[[Session], Session] = tuple
) -> Iterator[Batch]:
    """All sessions with their weights, those of like length together, each as `change` makes it."""
    ordered = sorted(weights, key=len)
    for first in range(0, len(ordered), BATCH):
        some = ordered[first : first + BATCH]
        full = [known.ids(change(one)) for one in some]
        yield Batch(
            pad_sequence([one[:-1] for one in full], batch_first=True),
            pad_sequence([one[1:] for one in full], batch_first=True, padding_value=IGNORED),
            torch.tensor([weights[one] for one in some]),
        )


def epochs(train: Sequence[Session], known: Vocabulary, moves: bool, seed: int) -> Iterator[Batch]:
    """Distinct sessions for ever, each counted as the root of its number, in half of them events moved."""
    draw = random.Random(seed)
    weights = {one: count**0.5 for one, count in Counter(train).items()}

    def change(one: Session) -> Session:
        return moved(one, draw) if moves and draw.random() < 0.5 else one

    while True:
        parts = list(batches(weights, known, change))
        yield from draw.sample(parts, len(parts))


def learn(kind: type[EventModel], train: Sequence[Session], lr: float, seed: int) -> dict[str, Score]:
    """Train a model; returns the forms of its score."""
    known = Vocabulary(train)
    torch.manual_seed(seed)
    model = kind(known.shares).train()
    optimisers = model.optimisers(lr)
    weights = Counter(train)
    usual = sum(count**0.5 * (len(one) + 1) for one, count in weights.items()) / len(weights) * BATCH
    for step, batch in zip(range(kind.steps), epochs(train, known, kind.moves, seed), strict=False):
        nats = F.cross_entropy(
            model(batch.ids).transpose(1, 2), batch.targets, ignore_index=IGNORED, reduction="none"
        )
        ((nats * batch.weights[:, None]).sum() / usual).backward()
        clip_gradients(model.parameters())
        optimisers.step(step, step / kind.steps)
    return scores(model.eval(), known)


FORMS = ("largest", "rank", "sum", "mean", "excess", "tail")
"""Of −ln p: the largest; the largest rank (DeepLog's top k); the sum and the mean; the largest beyond its
mean under the model's distribution; the largest −ln of the chance of all events as unlikely."""


@torch.no_grad()
def figures(
    model: EventModel, known: Vocabulary, sessions: Sequence[Session]
) -> Float[np.ndarray, "n forms"]:
    """The scores of each session in all FORMS."""
    distinct = sorted(set(sessions), key=len)
    found = []
    for batch in batches(dict.fromkeys(distinct, 1.0), known):
        log_p, real = model(batch.ids).log_softmax(-1), batch.targets != IGNORED
        own = log_p.gather(-1, batch.targets.clamp(min=0)[..., None])
        costs, p = -own[..., 0] * real, log_p.exp()
        entropy = -(p * log_p).sum(-1)
        tail = -(p * (log_p <= own)).sum(-1).log()
        rank = (log_p > own).sum(-1).float()
        largest = [(one * real).amax(1) for one in (costs, rank, costs - entropy, tail)]
        total = costs.sum(1)
        found.append(torch.stack([*largest[:2], total, total / real.sum(1), *largest[2:]], 1))
    row = {one: i for i, one in enumerate(distinct)}
    return torch.cat(found).numpy()[[row[one] for one in sessions]]


def scores(model: EventModel, known: Vocabulary) -> dict[str, Score]:
    """The forms of a model's score."""

    def form(column: int) -> Score:
        return lambda given: figures(model, known, given)[:, column].astype(float)

    return {name: form(i) for i, name in enumerate(FORMS)}
