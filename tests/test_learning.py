"""The benchmarks of learning: what is asked in each probe, what is judged of a text, what is run again."""

import copy
import itertools
import math
from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import error, randomise

from benchmarks import learning, learning_on, long_context, machine, pool, quality, recall, texts
from benchmarks.peers import MODELS, OUTPUTS, STEPWISE, build, recipe
from benchmarks.variants import VARIANTS, build_variant, channel_memory
from liquidlm import LEDTokenizerWrapper
from liquidlm.text.batches import IGNORED
from liquidlm.text.corpus import Document
from liquidlm.text.tokenization import tokenize_documents

GENERATOR = torch.Generator().manual_seed(5)


# ---- probes


def test_mqar_asks_for_the_value_of_each_key_once():
    ids, targets = recall.mqar(3, 64, 8, GENERATOR)
    for row, asked in zip(ids.tolist(), targets.tolist(), strict=True):
        pairs = dict(zip(row[:16:2], row[1:16:2], strict=True))
        places = [i for i, target in enumerate(asked) if target != IGNORED]
        assert sorted(row[i] for i in places) == sorted(pairs) and len(pairs) == 8
        assert all(i >= 16 and asked[i] == pairs[row[i]] for i in places)


@pytest.mark.parametrize("order", [2, 3])
def test_a_word_problem_asks_for_the_product_of_permutations(order):
    ids, targets = recall.word_problem(order)(4, 9, 0, GENERATOR)
    group = list(itertools.permutations(range(order)))
    for row, asked in zip(ids.tolist(), targets.tolist(), strict=True):
        product = tuple(range(order))
        for element, wanted in zip(row, asked, strict=True):
            product = tuple(product[i] for i in group[element])
            assert group[wanted] == product


def test_parity_is_the_word_problem_of_two():
    ids, targets = recall.word_problem(2)(4, 20, 0, GENERATOR)
    assert torch.equal(targets, ids.cumsum(1) % 2)


def test_a_passkey_stands_once_in_the_text_and_is_asked_at_its_end():
    for ids, targets in (recall.passkey(8, 40, 5, GENERATOR), recall.passkey(8, 13, 5, GENERATOR)):
        for row, asked in zip(ids.tolist(), targets.tolist(), strict=True):
            place = row.index(10)
            key = row[place + 1 : place + 6]
            assert place + 6 <= len(row) - 6 and row[-6] == 11 and row[-5:] == key
            assert asked[-6:-1] == key and all(target == IGNORED for target in asked[:-6] + asked[-1:])


def test_copying_asks_for_the_letters_again():
    ids, targets = recall.copying(2, 9, 0, GENERATOR)
    assert torch.equal(targets[:, 4:8], ids[:, :4]) and torch.equal(ids[:, 5:], ids[:, :4])
    assert (targets[:, :4] == IGNORED).all() and (targets[:, 8] == IGNORED).all()


class Knowing(torch.nn.Module):
    """Answers parity right, except in rows that begin with `wrong`."""

    carries = False

    def __init__(self, wrong: int):
        super().__init__()
        self.wrong = wrong

    def logits(self, ids, state=None):
        answer = (ids.cumsum(1) + (ids[:, :1] == self.wrong)) % 2
        return F.one_hot(answer, 2).float(), None


def test_accuracy_is_the_share_of_right_answers():
    task = recall.TASKS["parity"]
    assert recall.accuracy(Knowing(2), task, 16, 0) == 1
    assert 0.2 < recall.accuracy(Knowing(1), task, 16, 0) < 0.8


def test_longer_tests_are_left_out_where_nothing_is_right(monkeypatch):
    shares = {(8, 0): 1.0, (16, 0): 0.0, (32, 0): 0.5}
    short = replace(recall.TASKS["parity"], trained=[(4, 0)], tested=list(shares), steps=10, width=16)
    monkeypatch.setitem(recall.TASKS, "parity", short)
    monkeypatch.setattr(recall, "accuracy", lambda _, task, length, load, device: shares[length, load])
    found = recall.probe(recall.Probe("parity", "mingru", "adamw", 0.01))
    assert found["accuracy"] == {"8/0": 1.0, "16/0": 0.0}


def test_a_run_is_chosen_by_its_training_not_by_its_test():
    runs = {
        str(i): {"task": "s3", "model": "lstm", "training_loss": loss, "accuracy": {"64/0": share}}
        for i, (loss, share) in enumerate([(0.2, 0.9), (0.1, 0.5)])
    }
    assert recall.best(runs, "s3")["lstm"]["training_loss"] == 0.1


# ---- texts


def test_held_out_rows_judge_every_byte_after_the_burn_in(monkeypatch):
    monkeypatch.setattr(texts, "ROWS", 2)
    monkeypatch.setattr(texts, "BURN_IN", 3)
    tokenizer = LEDTokenizerWrapper.bytes()
    corpus = tokenize_documents([Document("abcdefgh", "a"), Document("ñandú", "b")], tokenizer)
    rows = texts.held_out(corpus, tokenizer, 1000)
    judged = [tokenizer.decode(row[row >= 0].tolist()) for row in rows.targets]
    assert judged == ["defgh", "andú"]  # no mark of an end or a beginning, and no first three
    assert rows.text_bytes == 10
    assert torch.equal(
        rows.ids[:, 1:][rows.targets[:, :-1] >= 0], rows.targets[:, :-1][rows.targets[:, :-1] >= 0]
    )


@pytest.mark.parametrize("carries", [True, False])
def test_pieces_judge_every_target_once(carries):
    targets = torch.arange(2 * 37).view(2, 37)
    targets[:, :8] = IGNORED
    rows = texts.HeldOut(torch.zeros_like(targets), targets, 1)
    seen = torch.cat([piece[piece >= 0] for _, piece in learning.pieces(rows, 16, carries)])
    assert sorted(seen.tolist()) == sorted(targets[targets >= 0].tolist())


@pytest.mark.parametrize("length", [5, 16, 50])
@pytest.mark.parametrize("carries", [True, False])
def test_windows_judge_every_position_once_and_with_context(length, carries):
    judged = []
    for first, last, start in long_context.windows(length, 16, carries):
        assert last - first <= 16 and (carries or start == 0 or start - first >= 8)
        judged += range(start, last)
    assert judged == list(range(length))


# ---- models


@pytest.mark.parametrize("name", ["liquidlm", "lstm", "mingru", "mingru with counts", "cfc"])
def test_a_model_that_carries_goes_on_where_it_was(name):
    if name in STEPWISE:
        pytest.importorskip("ncps", reason="ncps is not installed")
    torch.manual_seed(0)
    model = build(name, 11, 32, width=64, layers=2).eval()
    ids = torch.randint(0, 11, (2, 20), generator=GENERATOR)
    with torch.no_grad():
        whole, _ = model.logits(ids)
        first, state = model.logits(ids[:, :7])
        rest, _ = model.logits(ids[:, 7:], state)
    assert model.carries
    assert (torch.cat([first, rest], 1) - whole).abs().max() < 1e-4 * whole.abs().max()


@pytest.mark.parametrize(
    ("name", "optimiser"),
    [
        *((name, optimiser) for name in MODELS if name not in STEPWISE for optimiser in ("adamw", "muon")),
        *(("lstm", "adamw-table"), ("mingru", "adamw-table")),
    ],
)
def test_a_recipe_trains_every_parameter_once(name, optimiser):
    model = build(name, 11, 32, width=64, layers=2)
    groups = [group for part, _ in recipe(model, optimiser, 0.01).parts for group in part.param_groups]
    trained = [id(p) for group in groups for p in group["params"]]
    assert sorted(trained) == sorted(id(p) for p in model.parameters() if p.requires_grad)
    if optimiser == "muon":
        by_muon = {id(p) for p in groups[0]["params"]}
        outside = [p for n, p in model.named_parameters() if "embed" in n or n.split(".")[-2] in OUTPUTS]
        assert by_muon and not by_muon & set(map(id, outside))


@pytest.mark.parametrize("name", ["lstm", "mingru"])
def test_a_table_can_learn_faster_than_the_rest(name):
    model = build(name, 11, 32, width=64, layers=2)
    parts = recipe(model, "adamw-table", 0.01).parts
    rates = {id(p): rate for part, rate in parts for group in part.param_groups for p in group["params"]}
    assert rates.pop(id(model.embedding.weight)) == pytest.approx(0.1)
    assert rates == {id(p): 0.01 for p in model.parameters() if p is not model.embedding.weight}
    tried = {(tried.optimiser, tried.lr) for tried in quality.recipes(name)}
    assert ("adamw-table", 0.01) in tried and quality.timed("adamw-table") == "adamw"


def test_a_run_learns_and_says_how_well(monkeypatch):
    tokenizer = LEDTokenizerWrapper.bytes()
    corpus = tokenize_documents([Document("to be or not to be, " * 40, "a")], tokenizer)
    monkeypatch.setattr(texts, "ROWS", 2)
    monkeypatch.setattr(texts, "BURN_IN", 8)
    rows = texts.held_out(corpus, tokenizer, 200)
    monkeypatch.setattr(learning, "load", lambda name: texts.Text(tokenizer, corpus, rows, rows, rows))
    small = build("mingru", tokenizer.vocab_size, 32, width=32, layers=1)
    monkeypatch.setattr(learning, "build_variant", lambda *of: small)
    given = learning.Trial("any", "mingru", "muon", 0.02, steps=30, rows=2, length=32, bf16=False)
    found = learning.learn(given)
    assert found["curve"][0][-1] > found["bits_per_byte"] and found["curve"][-1][0] == 30
    nats = small.logits(rows.ids)[0].log_softmax(-1)
    judged = rows.targets >= 0
    nats = -nats[judged].gather(1, rows.targets[judged][:, None]).sum().item()
    assert found["bits_per_byte"] == pytest.approx(nats / math.log(2) / rows.text_bytes, rel=1e-4)


def test_learning_on_judges_what_fixed_weights_are_judged_on_and_then_learns(monkeypatch):
    """At a rate near 0 nothing is learned; at a high one the second row, which is like the first, costs
    less."""
    tokenizer = LEDTokenizerWrapper.bytes()
    corpus = tokenize_documents([Document("to be or not to be, " * 120, "a")], tokenizer)
    monkeypatch.setattr(texts, "ROWS", 2)
    monkeypatch.setattr(texts, "BURN_IN", 8)
    rows = texts.held_out(corpus, tokenizer, 2400)
    torch.manual_seed(0)
    model = build("liquidlm", tokenizer.vocab_size, 32, width=32, layers=1).eval()
    fixed = learning.bits_per_byte(model, rows, 256, bf16=False)
    model.eval()
    still, learned = (
        learning_on.bits_per_byte(copy.deepcopy(model.model), rows, rate) for rate in (1e-9, 0.03)
    )
    assert still == pytest.approx(fixed, rel=1e-4) and learned < 0.985 * fixed


# ---- pool


def test_the_speed_of_a_model_whose_name_has_words_is_its_own(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "RESULTS", tmp_path)
    text = SimpleNamespace(
        tokenizer=LEDTokenizerWrapper.bytes(), train=SimpleNamespace(tokens=np.zeros(2048, np.int32))
    )
    monkeypatch.setattr(quality, "load", lambda name: text)
    monkeypatch.setattr(quality, "bf16_is_faster", lambda *_: False)
    monkeypatch.setattr(quality, "TrainingStep", lambda name, *_: lambda: None)
    monkeypatch.setattr(
        quality, "interleaved", lambda steps, _: {key: [float(i)] for i, key in enumerate(steps)}
    )
    names = ["liquidlm", "liquidlm with counts", "llama"]
    found = quality.measure_speed(quality.SMALL, "novels-es", names)
    assert {name: found[name]["seconds"] for name in names} == {
        "liquidlm": {"adamw 256": 0.0, "muon 256": 1.0},
        "liquidlm with counts": {"adamw 256": 2.0, "muon 256": 3.0},
        "llama": {"adamw 1024": 4.0, "muon 1024": 5.0, "adamw 256": 6.0, "muon 256": 7.0},
    }


def test_a_given_recipe_is_not_swept_for(monkeypatch):
    asked = []
    seconds = {"seconds": {"muon 256": 1.0}, "bf16": True}
    monkeypatch.setattr(quality, "measure_speed", lambda contest, text, names, again: {names[0]: seconds})

    def run(name, trials, workers):
        asked.extend(trials)
        return {t.key: {**asdict(t), "bits_per_byte": 1.0, "parameters": 1} for t in asked}

    monkeypatch.setattr(quality, "run_trials", run)
    monkeypatch.setattr(quality, "redraw", lambda *_: None)
    quality.main(["--models", "mingru", "--minutes", "2", "--recipe", "muon:0.03"])
    assert [(t.recipe, t.lr, t.steps, t.length, t.judge) for t in asked] == [("muon", 0.03, 120, 256, "test")]


@pytest.mark.parametrize("base", [False, True])
def test_every_model_gets_the_steps_that_fit_and_the_recipe_that_was_best(base, monkeypatch, capsys):
    asked = []

    def measured(contest, text, names, again):
        seconds = (
            {"llama": 0.5, "liquidlm": 1.0}
            if contest is quality.SMALL
            else {"base/llama": 2.0, "base/liquidlm": 4.0}
        )
        keys = [f"{name} {length}" for name in ("adamw", "muon") for length in (256, 1024)]
        return {name: {"bf16": True, "seconds": dict.fromkeys(keys, seconds[name])} for name in names}

    def run(name, trials, workers):
        trials = list(trials)
        asked.append((name, trials))
        # The higher the rate the better, but for llama, whose shorter rows are: 256 and 0.001.
        score = {t.key: 1 - t.lr if t.model != "llama" else t.length + t.lr for t in trials}
        return {
            t.key: {"bits_per_byte": score[t.key], "parameters": 1, "curve": [], "recipe": t.recipe}
            | {"steps": t.steps, "rows": t.rows, "length": t.length, "lr": t.lr}
            for t in trials
        }

    monkeypatch.setattr(quality, "measure_speed", measured)
    monkeypatch.setattr(quality, "run_trials", run)
    monkeypatch.setattr(quality, "redraw", lambda *_: None)
    quality.main(["--models", "liquidlm", "llama", "--minutes", "2", *(["--base"] if base else [])])
    (swept, tried), (name, final) = asked
    assert swept == "quality" and {t.judge for t in tried} == {"valid"} and len(tried) == 4 + 8
    size, tokens, longer = ("base/", 16384, 4) if base else ("", 2048, 1)
    assert name == ("quality_base" if base else "quality")
    shapes = [(t.model, t.recipe, t.lr, t.steps, t.rows, t.length, t.judge) for t in final]
    rows = tokens // 256
    assert shapes == [
        (size + "liquidlm", "muon", 0.02, 120 // longer, rows, 256, "test"),
        (size + "llama", "adamw", 0.001, 240 // longer, rows, 256, "test"),
    ]
    assert f"{size}llama" in capsys.readouterr().out


def test_what_is_measured_is_not_run_again_and_what_failed_is(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "RESULTS", tmp_path)
    ran = []

    def child(module, job, threads):
        ran.append(job["n"])
        return {"failed": "exit code 1"} if job["n"] == 2 and ran.count(2) == 1 else {"square": job["n"] ** 2}

    monkeypatch.setattr(pool, "_in_child", child)
    jobs = {f"n={n}": {"n": n} for n in (1, 2, 3)}
    assert "failed" in pool.run_pool("squares", "any", jobs, 2)["n=2"]
    assert pool.run_pool("squares", "any", jobs, 2)["n=2"] == {"n": 2, "square": 4}
    assert sorted(ran) == [1, 2, 2, 3]


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_sees_no_future_and_goes_on_from_its_state(name):
    model = randomise(build_variant(f"tiny/{name}", 261, 64), scale=0.02).eval()
    ids = torch.randint(4, 260, (2, 70), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        whole, _ = model.logits(ids)
        first, state = model.logits(ids[:, :30])
        rest, _ = model.logits(ids[:, 30:], state)
        ids[:, 50] = 9
        other, _ = model.logits(ids)
    assert error(torch.cat([first, rest], 1), whole) < 2e-5
    assert error(other[:, :50], whole[:, :50]) == 0 and error(other[:, 50:], whole[:, 50:]) > 1e-3
    loss, _ = model.train()(ids, ids)
    loss.backward()
    assert bool(loss.isfinite()) and sum(p.grad is not None for p in model.parameters()) > 20


def test_a_memory_that_leaks_per_channel_is_the_recurrence():
    draw = torch.Generator().manual_seed(5)
    shape = 2, 37, 3
    q, v, k = (torch.randn(*shape, n, dtype=torch.float64, generator=draw) for n in (5, 4, 5))
    k, eta = F.normalize(k, dim=-1), 2 * torch.rand(shape, dtype=torch.float64, generator=draw)
    g = -3 * torch.rand(*shape, 5, dtype=torch.float64, generator=draw)
    g[:, 3], g[:, 7], g[:, 20] = 0.0, float("-inf"), -1e4
    first = torch.randn(2, 3, 5, 4, dtype=torch.float64, generator=draw)
    state, out = first, []
    for i in range(shape[1]):
        state = g[:, i, :, :, None].exp() * state
        surprise = v[:, i] - (state * k[:, i, :, :, None]).sum(2)
        state = state + eta[:, i, :, None, None] * k[:, i, :, :, None] * surprise[:, :, None]
        out.append((state * q[:, i, :, :, None]).sum(2))
    reads, last = channel_memory(q, k, v, g, eta, first)
    assert error(reads, torch.stack(out, 1)) < 1e-12 and error(last, state) < 1e-12
