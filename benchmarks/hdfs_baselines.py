"""Scores of sessions without a neural network: what does a session have that the normal ones do not?"""

import math
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

import numpy as np

Session = tuple[int, ...]
Score = Callable[[Sequence[Session]], np.ndarray]
ENDS = (-1, -2)
"""Stand before and after a session."""


def grams(order: int, train: Sequence[Session]) -> dict[str, Score]:
    """−ln p of an event after the `order` − 1 before it (Witten & Bell 1991): largest, sum and mean."""
    after: dict[Session, Counter[int]] = defaultdict(Counter)
    vocabulary = len({event for one in train for event in one}) + 1

    def padded(one: Session) -> Session:
        return (*[ENDS[0]] * (order - 1), *one, ENDS[1])

    for one in train:
        full = padded(one)
        for at in range(order - 1, len(full)):
            for length in range(order):
                after[full[at - length : at]][full[at]] += 1

    def probability(context: Session, event: int) -> float:
        p = 1 / (vocabulary + 1)
        for length in range(len(context) + 1):
            counts = after.get(context[len(context) - length :])
            if counts is None:
                break
            total, kinds = counts.total(), len(counts)
            p = (counts[event] + kinds * p) / (total + kinds)
        return p

    def costs(one: Session) -> list[float]:
        full = padded(one)
        return [
            -math.log(probability(full[at - order + 1 : at], full[at])) for at in range(order - 1, len(full))
        ]

    def score(form: Callable[[list[float]], float]) -> Score:
        return lambda given: np.array([form(costs(one)) for one in given])

    return {"largest": score(max), "sum": score(sum), "mean": score(lambda own: sum(own) / len(own))}


def counts(train: Sequence[Session]) -> dict[str, Score]:
    """The distance of a session's counts of events, weighed by idf, to the nearest normal ones."""
    events = sorted({event for one in train for event in one})
    place = {event: i for i, event in enumerate(events)}
    with_event = Counter(event for one in train for event in set(one))
    # An event that is in no normal session weighs most.
    idf = np.array([math.log((1 + len(train)) / (1 + with_event[event])) + 1 for event in events])
    unseen = math.log(1 + len(train)) + 1

    def vector(one: Session) -> np.ndarray:
        found, others = np.zeros(len(events) + 1), 0
        for event in one:
            if event in place:
                found[place[event]] += 1
            else:
                others += 1
        found[:-1] *= idf
        found[-1] = unseen * others
        return found

    known = np.unique(np.stack([vector(one) for one in train]), axis=0)

    def score(given: Sequence[Session]) -> np.ndarray:
        return np.array([np.abs(known - vector(one)).sum(1).min() for one in given])

    return {"nearest": score}


def new_ids(train: Sequence[Session]) -> dict[str, Score]:
    """How many events have an id that no normal session has: Drain3's new templates, of event ids."""
    known = {event for one in train for event in one}
    return {
        "number": lambda given: np.array([float(sum(event not in known for event in one)) for one in given])
    }


def compressed(train: Sequence[Session]) -> dict[str, Score]:
    """The bytes that zlib needs for a session after 32 KB of normal ones: in all, and per event."""

    def written(one: Session) -> bytes:
        return bytes(event % 256 for event in one) + b"\xff"

    before = b"".join(map(written, train))[-32_000:]

    def size(one: Session) -> int:
        packer = zlib.compressobj(9, zdict=before)
        return len(packer.compress(written(one)) + packer.flush())

    return {
        "sum": lambda given: np.array([float(size(one)) for one in given]),
        "mean": lambda given: np.array([size(one) / len(one) for one in given]),
    }


BASELINES: dict[str, Callable[[Sequence[Session]], dict[str, Score]]] = {
    "2-grams": lambda train: grams(2, train),
    "3-grams": lambda train: grams(3, train),
    "counts with idf": counts,
    "zlib": compressed,
    "new event ids (Drain3)": new_ids,
}
"""Name ▶ what learns from normal sessions and gives scores by their form."""
