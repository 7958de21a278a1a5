"""The benchmarks of text with a clock, small."""

import itertools
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import apollo, elapsed, marks, service_log, surprise
from liquidlm.text.event_files import TextEvent
from liquidlm.text.tokenizer import LEDTokenizerWrapper


@pytest.mark.parametrize("between", [0, 1, 8])
def test_only_the_time_since_the_mark_answers(between: int) -> None:
    ids, times, answers = elapsed.examples(4000, between, torch.Generator().manual_seed(0))
    assert ids.shape == times.shape == (4000, elapsed.BEFORE + between + 2)
    assert bool((times.diff(dim=1) >= 0).all())
    (places,) = (ids == elapsed.MARK).nonzero(as_tuple=True)[1:]
    assert places.tolist() == [elapsed.BEFORE] * 4000  # the same place in every row
    passed = times[:, -1] - times[:, elapsed.BEFORE]
    assert torch.equal(passed > 1, answers == elapsed.LONG)
    assert abs((answers == elapsed.LONG).double().mean().item() - 0.5) < 0.03


def test_a_few_steps_already_tell_short_from_long() -> None:
    model = elapsed.learn(timed=True, steps=60, rows=16)
    assert elapsed.right(model, True, 3, rows=300) > 0.8
    assert 0.35 < elapsed.right(model, False, 3, rows=300) < 0.65


TIMES = [14 * i + i * i % 13 for i in range(60)]
FLIGHT = "".join(
    f"[00:00:{time // 60:02}:{time % 60:02}]\n_page : {i}\nCC: Say {i}\n again.\n\n"
    for i, time in enumerate(TIMES)
)


@pytest.fixture
def flights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for part in ("train", "valid"):
        (tmp_path / "apollo" / part).mkdir(parents=True)
        (tmp_path / "apollo" / part / "a_TEC.txt").write_text(FLIGHT + "[00:00:01:00]\nCDR: Late.\n")
    monkeypatch.setattr(apollo, "FOLDER", tmp_path)


def test_missions_are_read_and_their_clocks_changed(flights) -> None:
    (mission,) = apollo.missions("train")
    assert mission[:2] == [TextEvent(0.0, "CC: Say 0 again."), TextEvent(15.0, "CC: Say 1 again.")]
    assert len(mission) == 61 and mission[-1] == TextEvent(TIMES[-1], "CDR: Late.")  # never back
    uneven = [TextEvent(time, "x") for time in (2.0, 3.0, 3.0, 9.0, 30.0)]
    gaps = {name: apollo.gaps_of(change(uneven)).tolist() for name, change in apollo.CLOCKS.items()}
    assert gaps["real"] == [1, 0, 6, 21] and sorted(gaps["shuffled"]) == [0, 1, 6, 21]
    assert gaps["alike"] == [7, 7, 7, 7]
    assert all(
        abs(math.log(new / old)) < 1 for new, old in zip(gaps["jittered"], gaps["real"], strict=True) if old
    )
    assert 0 < len(gaps["half of the utterances"]) < 4
    corpus = apollo.corpus([mission, mission], LEDTokenizerWrapper.bytes(), timed=True)
    assert corpus.events == 122 and 10 < corpus.typical_gap < 20


def test_every_kind_of_run(flights, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {
        "hidden_size": 32,
        "embedding_dim": 16,
        "latent_dim": 8,
        "num_hidden_layers": 2,
        "ngram_rows": 40,
    }
    monkeypatch.setattr(apollo, "SIZES", sizes)
    monkeypatch.setattr(apollo, "LENGTH", 32)
    found = {
        "log-normal renewal": apollo.work({"kind": "renewal"}),
        "GRU": apollo.work({"kind": "gru", "lr": 0.01, "epochs": 2, "seed": 0}),
        "ours": apollo.work({"kind": "text", "timed": True, "steps": 3, "seed": 0}),
        "twin": apollo.work({"kind": "text", "timed": False, "steps": 3, "seed": 0}),
    }
    assert "nats_per_gap" not in found["twin"]["real"]
    for name in ("GRU", "ours"):
        assert all(math.isfinite(found[name][clock]["nats_per_gap"]) for clock in apollo.CLOCKS)
    # Without times other clocks are the same text; half of it is not.
    bits = [found["twin"][clock]["bits_per_byte"] for clock in apollo.CLOCKS]
    assert bits[0] == bits[1] == bits[2] == bits[3] != bits[4]
    assert len(apollo.table(found).splitlines()) == 6


# ---- marks


@pytest.fixture
def badges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five folds of eight users each, and one with a single event, who is passed over."""
    (tmp_path / "stackoverflow-events").mkdir()
    for fold in range(1, 6):
        users = [[1 + (user + i) % 22 for i in range(3 + user)] for user in range(8)] + [[4]]
        times = [[86400 * i * (i + 1) / 2 for i in range(len(own))] for own in users]
        for what, rows in (("event", users), ("time", times)):
            lines = "\n".join(" ".join(map(str, row)) for row in rows)
            (tmp_path / "stackoverflow-events" / f"{what}-{fold}-test.txt").write_text(lines + "\n")
    monkeypatch.setattr(marks, "FOLDER", tmp_path)


def test_users_and_batches(badges, monkeypatch: pytest.MonkeyPatch) -> None:
    found = marks.users(1)
    assert len(found) == 8 and found[0][0].tolist() == [0, 1, 2] and found[0][1].tolist() == [0, 1, 3]
    monkeypatch.setattr(marks, "TOKENS", 20)
    parts = list(marks.batches(found))
    assert sum(int(part.real.sum()) for part in parts) == sum(len(own) for own, _ in found)
    assert all(part.marks.numel() <= 20 or len(part.marks) == 1 for part in parts) and len(parts) > 2


@pytest.mark.parametrize("kind", list(marks.MODELS))
def test_a_batch_is_as_likely_as_its_users_one_by_one(badges, kind) -> None:
    torch.manual_seed(0)
    model, found = marks.MODELS[kind](2.0).eval(), marks.users(1)
    (together,) = marks.batches(found)
    whole = model.log_likelihood(together)
    alone = sum(model.log_likelihood(next(marks.batches([own]))) for own in found)
    assert abs(whole - alone).item() < 1e-3
    figures = marks.judge(model, found)
    count = sum(len(own) - 1 for own, _ in found)
    assert figures["log_likelihood"] == pytest.approx(whole.item() / count, abs=1e-4)
    assert 0 <= figures["accuracy"] <= 1 and figures["median_error_days"] > 0


@pytest.mark.parametrize("kind", ["neural Hawkes", "transformer Hawkes"])
def test_what_a_point_process_predicts_follows_from_its_likelihood(badges, kind) -> None:
    """All chances are 1, a half of them lies before the median gap, and most at the likeliest mark."""
    torch.manual_seed(0)
    model, (own, days) = marks.MODELS[kind](2.0).eval(), marks.users(1)[3]
    batch = next(marks.batches([(own[:5], days[:5])]))
    with torch.no_grad():
        likeliest, median = (found[0, 3].item() for found in model.predict(batch))
        before = model.log_likelihood(marks.Batch(*(part[:, :4] for part in batch)))
        edges = torch.logspace(-3, 2.5, 80, dtype=torch.float64)

        def density(mark: int, gap: float) -> float:
            ids, times = batch.marks.clone(), batch.times.clone()
            ids[0, 4], times[0, 4] = mark, times[0, 3] + gap
            return math.exp(model.log_likelihood(marks.Batch(ids, times, batch.real)) - before)

        middles = ((edges[1:] + edges[:-1]) / 2).tolist()
        chances = torch.tensor([[density(mark, gap) for gap in middles] for mark in range(22)]) * edges.diff()
    assert chances.sum().item() == pytest.approx(1, abs=0.03)
    assert chances.sum(1).argmax() == likeliest
    assert chances[:, edges[1:] <= median].sum().item() == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize("model", list(marks.MODELS))
def test_a_fold(badges, model: str) -> None:
    found = marks.learn({"model": model, "lr": 0.003, "fold": 2, "epochs": 2, "seed": 0, "judge": True})
    assert math.isfinite(found["test"]["log_likelihood"]) and found["epoch"] in (1, 2)


def test_a_service_log_is_in_order_and_a_few_of_its_lines_are_planted() -> None:
    log = service_log.service_log(5000, 1, 0.05)
    assert log == service_log.service_log(5000, 1, 0.05) and len(log) == 5000
    assert all(a.time <= b.time and b.text for a, b in itertools.pairwise(log))
    counts = Counter(entry.kind for entry in log)
    assert set(counts) == {"", *service_log.KINDS} and 150 < 5000 - counts[""] < 400
    assert log[0].line.startswith("2026-01-01 00:00:0") and log[0].line.endswith(log[0].text)
    clean = service_log.service_log(5000, 1)
    assert {entry.kind for entry in clean} == {""}
    beats = np.diff([entry.time for entry in clean if entry.text == "heartbeat ok"])
    assert abs(beats - 10).max() < 0.5


def test_the_area_under_the_curve_is_the_share_of_pairs_in_order() -> None:
    scores, positive = np.array([1.0, 2.0, 2.0, 3.0, 0.0]), np.array([False, True, False, True, True])
    assert surprise.roc_area(scores, positive) == pytest.approx((1 + 0.5 + 2 + 0) / 6)


def test_3_grams_are_distributions() -> None:
    symbols = list("abracadabra")
    model = surprise.NGrams(symbols)
    for context in ("ab", "ra", "xx", "a", ""):
        p = [2 ** -model.bits([*context, x], len(context)) for x in "abrcd"]
        assert sum(p) < 1 < sum(p) + 5 * 2 ** -model.bits([*context, "?"], len(context))
        assert sum(p) + 2 ** -model.bits([*context, "?"], len(context)) == pytest.approx(1)


def test_baselines_score_every_line() -> None:
    clean, log = service_log.service_log(300, 0), service_log.service_log(100, 1, 0.3)
    found = surprise.baselines(clean, log[:50], log)
    assert {name: len(forms) for name, forms in found.items()} == {
        "zlib": 8,
        "3-grams": 18,
        "3-grams, clocks by hand": 9,
    }
    for form in itertools.chain(*found.values()):
        assert form.choose.shape == (50,) and form.test.shape == (100,) and (form.test > 0).all()
