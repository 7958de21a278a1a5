"""`liquidlm watch --learn`: each line is judged, then learned; a run that is stopped goes on to the bit."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from logs import tiny

from liquidlm import LEDTokenizerWrapper, LiquidError
from liquidlm.cli.standard_input import Pieces
from liquidlm.inference.saving import load_model, save_model
from liquidlm.inference.surprise import SurpriseReader
from liquidlm.runtime.checksums import verify
from liquidlm.runtime.folders import write_folder
from liquidlm.text.reading import ReadingOptions
from liquidlm.training import fresh, online
from liquidlm.training.fresh import fresh_model
from liquidlm.training.learned_state import model_of
from liquidlm.training.learning_reader import LearningReader
from liquidlm.training.online import OnlineLearner
from liquidlm.training.online_optimiser import OnlineOptimiser, rate_factor

LINES = [f"[{10 * i}] pump {i % 3} is {'on' if i % 2 else 'off'}\n" for i in range(30)]
LOG = "".join(LINES).encode()
BLOCK, RATE = 96, 0.2


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small blocks, and a small model."""
    monkeypatch.setattr(online, "BLOCK", BLOCK)
    monkeypatch.setattr(online, "KEPT", 3 * BLOCK)
    sizes = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "embedding_dim": 16,
        "latent_dim": 8,
        "ngram_rows": 64,
    }
    monkeypatch.setattr(fresh, "SIZES", sizes)


def learning(budget: float = 1.0, data: bytes = LOG) -> LearningReader:
    model, tokenizer = fresh_model(data, ReadingOptions())
    return LearningReader(tokenizer, OnlineLearner(model, RATE, budget))


def weights(reader: SurpriseReader) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in reader.model.parameters()]


def alike(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


# ---- the reader


def test_surprise_falls_on_a_log_that_repeats() -> None:
    lines = learning().push(LOG * 3)
    assert sum(line.bits for line in lines[-20:]) < 0.6 * sum(line.bits for line in lines[:20])


def test_a_line_is_judged_by_weights_that_have_not_seen_it() -> None:
    """What comes after a line does not change its score; the block before has changed the weights."""
    one, other = learning(), learning()
    strange = b"[300] a line that never was before" + b", which is long" * 9 + b"\n"
    first, second = one.push(LOG + strange), other.push(LOG)
    assert first[:-1] == second
    model, tokenizer = fresh_model(LOG, ReadingOptions())
    model.load_state_dict(other.model.state_dict())
    unlearned = SurpriseReader(model, tokenizer, other.state.copy(), other.position, other.rarity)
    assert unlearned.push(strange)[0].bits == first[-1].bits
    assert one.learner.updates > other.learner.updates and not alike(weights(one), weights(other))


@pytest.mark.parametrize("budget", [1.0, 3.0, 0.4])
def test_stopped_and_gone_on_is_the_same_to_the_bit(budget: float, tmp_path: Path) -> None:
    whole, parts = learning(budget), learning(budget)
    lines, found = whole.push(LOG * 2), []
    for begin in range(0, 60, 17):
        found += parts.push("".join((LINES * 2)[begin : begin + 17]).encode())
        parts.save(tmp_path / "log.state")
        model, tokenizer = model_of(tmp_path / "log.state", torch.device("cpu"))
        parts = LearningReader.load(tmp_path / "log.state", model, tokenizer, rate=RATE, budget=budget)
    assert found == lines and alike(weights(whole), weights(parts))
    assert parts.learner.numbers() == whole.learner.numbers()


def test_the_budget_is_exact() -> None:
    each, some, more = learning(1.0), learning(0.25), learning(4.0)
    for one in (each, some, more):
        one.push(LOG * 2)
    blocks = each.learner.updates
    assert blocks >= 8 and some.learner.updates == blocks // 4 and more.learner.updates == blocks
    assert more.learner.learned == 4 * each.learner.learned == 4 * BLOCK * blocks


def test_with_another_budget_a_state_goes_on(tmp_path: Path) -> None:
    reader = learning(1.0)
    reader.push(LOG)
    reader.save(tmp_path / "log.state")
    model, tokenizer = model_of(tmp_path / "log.state", torch.device("cpu"))
    again = LearningReader.load(tmp_path / "log.state", model, tokenizer, budget=3.0)
    before = again.learner.learned
    again.push(LOG)
    assert (again.learner.learned - before) % (3 * BLOCK) == 0 and again.learner.learned > before


def test_an_interrupt_takes_the_learning_back(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = learning(), learning()
    for each in (one, other):
        each.push(LOG)

    def interrupted(*_) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(one, "_line", interrupted)
        with pytest.raises(KeyboardInterrupt):
            one.push(LOG)
    assert alike(weights(one), weights(other)) and one.learner.numbers() == other.learner.numbers()
    assert one.push(LOG) == other.push(LOG) and alike(weights(one), weights(other))


def test_a_loss_that_is_not_finite_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = learning()
    before = weights(reader)
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *_: torch.tensor(float("nan")))
    reader.push(LOG)
    assert alike(weights(reader), before) and reader.learner.updates == 0


def test_a_log_without_times_is_learned(tmp_path: Path) -> None:
    reader = learning(data=b"pump is on\n" * 9)
    assert not reader.timed
    lines = reader.push(b"pump is on\n" * 60)
    assert lines[-1].bits < lines[0].bits and lines[-1].time is None
    reader.save(tmp_path / "log.state")
    model, tokenizer = model_of(tmp_path / "log.state", torch.device("cpu"))
    again = LearningReader.load(tmp_path / "log.state", model, tokenizer, rate=RATE)
    assert again.push(b"pump is on\n" * 9) == reader.push(b"pump is on\n" * 9)


def test_the_clock_of_a_new_model_is_that_of_the_first_lines() -> None:
    config = fresh_model(LOG, ReadingOptions())[0].config
    assert (config.time_scale, config.memory_scale, config.time_resolution) == (10.0, 300.0, 1.0)
    config = fresh_model(b"[1] a\n[3] b\n", ReadingOptions())[0].config
    assert (config.time_scale, config.time_resolution) == (2.0, 0.0)  # too few gaps to know its steps


def test_the_optimiser_is_that_of_training() -> None:
    """Muon and AdamW of `liquid_optimisers`, at the same rates."""
    from liquidlm.training.optim import liquid_optimisers

    tokenizer = LEDTokenizerWrapper.bytes()
    one, other = tiny(tokenizer, True), tiny(tokenizer, True)
    ours, theirs = OnlineOptimiser(one, 0.02), liquid_optimisers(other, 0.02, 0.0, warmup=10, bf16=False)
    ids = torch.arange(4, 36)[None]
    for step in range(3):
        for model in (one, other):
            times = torch.arange(32.0, dtype=torch.float64)[None]
            model(ids, timestamps=times, labels=ids).loss.backward()
        ours.step()
        theirs.step(step, progress=0.0)
        one.zero_grad(set_to_none=True)
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-4, rtol=1e-3)
    assert rate_factor(0) < rate_factor(9) == 1 > rate_factor(1000) > rate_factor(10**9) == 0.1


@pytest.mark.parametrize(("rate", "budget"), [(0.0, 1.0), (2.0, 1.0), (0.1, 0.0), (0.1, 1.5), (0.1, 99.0)])
def test_rates_and_budgets_out_of_range(rate: float, budget: float) -> None:
    model, _ = fresh_model(LOG, ReadingOptions())
    with pytest.raises(LiquidError, match="learning rate" if budget == 1 else "learning budget"):
        OnlineLearner(model, rate, budget)


# ---- the command


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model with times."""
    tokenizer = LEDTokenizerWrapper.bytes()
    write_folder(tmp_path / "model", lambda part: save_model(part, tiny(tokenizer, True), tokenizer))
    return tmp_path / "model"


def files(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_without_a_model_halves_with_a_state_are_the_whole(watch: Callable, tmp_path: Path) -> None:
    data, state, to = LOG * 2, tmp_path / "log.state", tmp_path / "learned"
    code, whole, err = watch("--learn", stdin=data)
    assert code in (0, 1) and (found := re.search(r"learned (\S+) tokens in (\d+) updates", err)), err
    cut = data.index(b"\n", len(data) // 2) + 1
    halves = ""
    for part in (data[:cut], b"", data[cut:]):
        code, out, err = watch("--learn", "--state", state, "--learn-to", to, stdin=part)
        assert code in (0, 1), err
        halves += out
    assert halves == whole and "the model is in" in err
    verify(to)
    model, _ = load_model(to)
    again = LearningReader.load(state, *model_of(state, torch.device("cpu")))
    assert alike(weights(again), [parameter.detach() for parameter in model.parameters()])
    assert json.loads((to / "learned.json").read_text()) == {
        "from": None,
        "updates": int(found[2]),
        "tokens": int(found[1].replace(",", "")),
    }
    assert watch(to, stdin=LOG)[0] in (0, 1)


def test_a_folder_is_not_changed_and_its_state_is_of_it(
    watch: Callable, folder: Path, tmp_path: Path
) -> None:
    before, state = files(folder), tmp_path / "log.state"
    code, out, err = watch(folder, "--learn", "--state", state, "--learn-to", tmp_path / "to", stdin=LOG)
    assert code in (0, 1) and len(out.splitlines()) == 30, err
    assert (
        files(folder) == before and files(tmp_path / "to")["model.safetensors"] != before["model.safetensors"]
    )
    for words, said in (
        ((folder, "--state", state), "continue with `watch --learn --state`"),
        (("--learn", "--state", state), "name the folder that it began with"),
        ((tmp_path / "to", "--learn", "--state", state), "has learned from another model"),
    ):
        code, out, err = watch(*words, stdin=LOG)
        assert code == 2 and said in err.replace("\n", " ") and not out, err
    with pytest.raises(LiquidError, match="watch --learn"):
        SurpriseReader.load(state, *load_model(folder))
    state.write_bytes(state.read_bytes()[:-64])
    assert "not a readable liquid state" in watch(folder, "--learn", "--state", state, stdin=LOG)[2]


def test_a_baseline_is_learned_first(watch: Callable, tmp_path: Path) -> None:
    (tmp_path / "normal.log").write_bytes(LOG * 2)
    _, out, err = watch(
        "--learn", "--learn-rate", RATE, "--json", "--baseline", tmp_path / "normal.log", stdin=LOG
    )
    after = [json.loads(line)["bits"] for line in out.splitlines()]
    _, out, _ = watch("--learn", "--learn-rate", RATE, "--json", stdin=LOG)
    without = [json.loads(line)["bits"] for line in out.splitlines()]
    assert sum(after[:20]) < 0.9 * sum(without[:20]) and "60 lines of" in err


def test_mistakes_are_one_line(watch: Callable, folder: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain.state"
    assert watch(folder, "--state", plain, stdin=LOG)[0] in (0, 1)
    (tmp_path / "file").write_text("a file")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("all my work")
    for words, said in (
        ((), "name a model"),
        ((folder, "--learn-to", tmp_path / "to"), "--learn-to needs --learn"),
        ((folder, "--learn-budget", 1), "--learn-budget needs --learn"),
        ((folder, "--learn-rate", 0.1), "--learn-rate needs --learn"),
        (("--learn", "--learn-budget", 0), "the learning budget"),
        (("--learn", "--learn-budget", "nan"), "the learning budget"),
        (("--learn", "--learn-rate", -1), "the learning rate"),
        (("--learn", "--learn-rate", "nan"), "the learning rate"),
        ((folder, "--learn", "--learn-to", folder), "the folder of the model itself"),
        (("--learn", "--learn-to", folder), "did not write"),
        (("--learn", "--learn-to", tmp_path / "file"), "is a file"),
        (("--learn", "--learn-to", tmp_path / "other"), "did not write"),
        (("--learn", "--baseline", tmp_path / "none"), "cannot read the baseline"),
        ((folder, "--learn", "--state", plain), "without --learn"),
        (("--learn", "--alarms", 0), "alarms must be greater than 0"),
        (("--learn", "--late", "sort"), "--late sort needs a whole file"),
    ):
        code, out, err = watch(*words, stdin=LOG)
        assert code == 2 and said in err and err.count("\n") == 1 and not out, (words, err)
    assert not (tmp_path / "to").exists() and files(tmp_path / "other") == {"thesis.txt": b"all my work"}


def test_the_first_lines_are_looked_at_and_given_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for data in (b"", b"one", b"one\n" * 5000):
        (tmp_path / "stdin").write_bytes(data)
        with (tmp_path / "stdin").open() as source:
            monkeypatch.setattr(sys, "stdin", source)
            pieces = Pieces()
            first = pieces.first_lines()
            assert first.count(b"\n") >= 32 or first == data
            assert b"".join(iter(lambda pieces=pieces: pieces.next(None), b"")) == data


def test_an_empty_log(watch: Callable, tmp_path: Path) -> None:
    code, out, err = watch("--learn", "--state", tmp_path / "log.state", stdin=b"")
    assert code == 0 and not out and "0 lines" in err and not (tmp_path / "log.state").exists()
