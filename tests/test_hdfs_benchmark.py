"""The benchmark of a file system's sessions, small."""

import random
from collections import Counter
from itertools import islice

import numpy as np
import pytest
import torch

from benchmarks import hdfs
from benchmarks.hdfs_models import END, IGNORED, Ours, Vocabulary, batches, epochs, figures, learn, moved

NORMAL = [(5, 5, 22, 11, 9), (5, 22, 5, 11, 9), (5, 5, 22, 11, 9, 3)] * 20


def test_f1_weighs_normal_sessions_as_the_whole_data_set() -> None:
    scores, positive = np.array([3.0, 2.0, 1.0, 0.0]), np.array([True, False, True, False])
    weight = 2 * (1 - hdfs.ABNORMAL) / hdfs.ABNORMAL / 2  # of one normal session
    # Either the first alone, or the first three.
    assert hdfs.best_f1(scores, positive) == pytest.approx(max(2 / (1 + 2), 4 / (2 + weight + 2)))


def test_equal_scores_stand_on_one_side_of_a_threshold() -> None:
    positive = np.array([True, False])
    whole = 2 / (1 + (1 - hdfs.ABNORMAL) / hdfs.ABNORMAL + 1)
    assert hdfs.best_f1(np.zeros(2), positive) == pytest.approx(whole)


def test_moving_events_keeps_them_all() -> None:
    draw = random.Random(0)
    found = [moved(one, draw) for one in NORMAL]
    assert all(Counter(a) == Counter(b) for a, b in zip(found, NORMAL, strict=True))
    assert sum(a != b for a, b in zip(found, NORMAL, strict=True)) > len(NORMAL) / 2


def test_a_distinct_session_counts_as_the_root_of_its_number() -> None:
    known = Vocabulary(NORMAL)
    (batch,) = islice(epochs(NORMAL, known, moves=False, seed=0), 1)
    assert batch.weights.tolist() == pytest.approx([20**0.5] * 3)
    assert (batch.targets == END).sum(1).tolist() == [1, 1, 1]
    assert (batch.targets == IGNORED).sum(1).tolist() == [1, 1, 0]


def test_shares_are_those_of_the_events() -> None:
    known = Vocabulary([(7, 7, 8)])
    assert known.place == {7: 2, 8: 3}
    assert torch.allclose(known.shares, torch.tensor([0.5, 1, 2, 1, 0.5]) / 5)
    assert known.ids((8, 99)).tolist() == [0, 3, 4, 1]


def test_scores_are_in_the_order_of_the_sessions() -> None:
    known = Vocabulary(NORMAL)
    torch.manual_seed(0)
    model = Ours(known.shares).eval()
    found = figures(model, known, NORMAL)
    alone = np.concatenate([figures(model, known, [one]) for one in NORMAL[:3]])
    assert found.shape == (60, 6)
    np.testing.assert_allclose(found[:3], alone, rtol=1e-3, atol=1e-4)
    assert len(list(batches(dict.fromkeys(NORMAL, 1.0), known))) == 1


def test_a_few_steps_tell_a_session_that_ends_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ours, "steps", 25)
    score = learn(Ours, NORMAL, 0.02, seed=0)["largest"]
    assert score([(5, 22), (5, 5, 22, 11)]).min() > score(NORMAL).max()


def test_what_is_judged_was_not_learned_from() -> None:
    given = hdfs.Sessions(NORMAL, [(1,)], [], [])
    seen: list[int] = []

    def learner(train: object) -> dict[str, hdfs.Score]:
        assert isinstance(train, list)
        seen.append(len(train))
        return {"known": lambda sessions: np.array([float(len(one)) for one in sessions])}

    found = hdfs.crossed(learner, given)
    assert seen == [45] * hdfs.FOLDS
    assert found["known"]["area"] == 0.0  # every normal session is longer
