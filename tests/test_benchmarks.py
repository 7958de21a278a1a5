"""The benchmarks' own arithmetic: registry, timing in turn, memory of a step, counted products, results."""

import importlib
import json
import re
from importlib.util import find_spec

import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.text import Text

from benchmarks import (
    embedding_share,
    gemm_share,
    limits,
    machine,
    plot_names,
    plots,
    plots_es,
    run,
    timing,
    training_step,
)
from benchmarks.peers import MODELS


@pytest.fixture
def results(tmp_path, monkeypatch):
    """Results go to a folder of their own; float32 is taken without the trial, which takes seconds."""
    monkeypatch.setattr(machine, "RESULTS", tmp_path)
    monkeypatch.setattr(plots, "IMAGES", tmp_path)
    for module in (training_step, gemm_share):
        monkeypatch.setattr(module, "bf16_is_faster", lambda name, vocab: False)
    return tmp_path


# ---- registry


@pytest.mark.parametrize("module", run.BENCHMARKS.values())
def test_every_registered_benchmark_can_be_called(module):
    if find_spec(f"benchmarks.{module}") is None:
        pytest.skip(f"benchmarks/{module}.py is not there")
    assert run.summary(module)
    with pytest.raises(SystemExit) as end:
        importlib.import_module(f"benchmarks.{module}").main(["--help"])
    assert end.value.code == 0


def test_the_list_names_every_benchmark(capsys):
    for argv in ([], ["--list"]):
        assert run.main(argv) == 0
        assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(run.BENCHMARKS)


def test_an_unknown_name_is_one_line_and_exit_code_2(capsys):
    assert run.main(["training_stop"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "training_stop" in said.err and "training_step" in said.err


# ---- timing


def test_interleaved_warms_up_once_and_goes_round_in_turn():
    calls = []
    seconds = timing.interleaved({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 3)
    assert calls == ["a", "b"] + ["a", "b"] * 3
    assert {name: len(each) for name, each in seconds.items()} == {"a": 3, "b": 3}


def test_ratios_pair_the_rounds():
    seconds = {"ours": [1.0, 10.0, 2.0], "peer": [2.0, 30.0, 8.0]}
    assert timing.ratios(seconds, "ours") == {"ours": 1.0, "peer": 3.0}  # of medians it would be 4
    assert timing.medians(seconds) == {"ours": 2.0, "peer": 8.0}


CHILD = """
import time
from benchmarks import timing
timing.MEMORY_SHARE = 0.1
size = {size}
held = bytearray(100 << 20)
def step():
    more = bytearray(size)
    time.sleep({sleep})
timing.report_step(lambda: step, limit=0.5)
"""


def child(size: int, sleep: float = 0.0) -> dict:
    return timing.measured_in_child(["-c", CHILD.format(size=size, sleep=sleep)])


def test_a_childs_memory_is_that_of_its_step():
    parents = bytearray(300 << 20)  # which must not be counted as the child's
    found = child(50 << 20)
    assert found["peak_bytes"] == pytest.approx(50 << 20, rel=0.1)
    assert 0 < found["seconds"] < 0.5
    del parents


def test_a_child_without_memory_or_time_is_reported():
    assert child(timing.total_memory()) == {"failed": "out of memory"}
    assert child(1, sleep=5) == {"failed": "over the time limit"}
    assert "no_such_module" in str(timing.measured_in_child(["-m", "no_such_module"])["failed"])


# ---- results


def test_results_add_up_and_replace_whole_entries(results):
    machine.write_results("figures", {"check": 1})
    machine.add_results("figures", "lengths", "261/1024", {"a": {"seconds": 1}, "b": {"seconds": 2}})
    machine.add_results("figures", "lengths", "261/4096", {"a": {"seconds": 3}})
    machine.add_results("figures", "lengths", "261/1024", {"b": {"left_out": "why"}})
    figures = json.loads((results / "figures.json").read_text())
    assert next(iter(figures)) == "machine"
    assert figures["machine"]["memory_bytes"] > 0
    assert figures["check"] == 1
    assert figures["lengths"] == {
        "261/1024": {"a": {"seconds": 1}, "b": {"left_out": "why"}},
        "261/4096": {"a": {"seconds": 3}},
    }


# ---- plots


@pytest.mark.parametrize("name", [*plots.PLOTS, "quality"])
def test_stored_figures_are_drawn_with_the_models_own_names(name, tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "IMAGES", tmp_path)
    shown = []
    monkeypatch.setattr(
        Figure, "savefig", lambda self, file, **_: (shown.append(self), file.write_bytes(b"png"))
    )
    assert all(file.parent == tmp_path for file in plots.redraw(name))
    for axis in (axis for figure in shown for axis in figure.axes):
        assert axis.get_ylabel() or axis.get_xlabel()
        names = {text.split(",")[0] for text in axis.get_legend_handles_labels()[1]}
        assert not names & (set(plot_names.MODELS) - {"liquidlm"} | {"ours"})


@pytest.mark.parametrize("name", [*plots.PLOTS, "quality"])
def test_no_english_label_is_left_in_a_spanish_plot(name, tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "IMAGES", tmp_path)
    shown: dict[str, set[str]] = {}

    def keep(figure, file, **_):
        figure.canvas.draw()
        shown[file.name] = {text.get_text() for text in figure.findobj(Text)}
        file.write_bytes(b"png")

    monkeypatch.setattr(Figure, "savefig", keep)
    plots.redraw(name)
    for file, labels in shown.items():
        if file.endswith("-es.png"):
            english = shown[file.replace("-es.png", ".png")]
            words = {word for label in labels for word in re.findall(r"[a-z]+", label)}
            assert not words & {"of", "the", "time", "loss", "speed", "in", "at", "training", "length"}, words
            assert english & set(plots_es.LABELS) and not labels & set(plots_es.LABELS)


def test_a_plot_shows_the_best_run_of_each_model():
    run = {"text": "novels", "judge": "test", "span": 16384, "seed": 0}
    trials = {
        str(score): run | {"model": model, "bits_per_byte": score} | more
        for model, score, more in (
            ("lstm", 2.0, {}),
            ("lstm", 1.9, {}),
            ("lstm", 1.5, {"judge": "valid"}),
            ("liquidlm", 1.8, {}),
            ("unknown speed", 1.0, {}),
        )
    }
    figures = {"trials": trials, "speed": {"novels": {"lstm": {}, "liquidlm": {}}}}
    best = plots.best_runs(figures, "novels")
    assert [(name, each["bits_per_byte"]) for name, each in best.items()] == [
        ("liquidlm", 1.8),
        ("lstm", 1.9),
    ]


@pytest.mark.parametrize("name", MODELS)
def test_every_model_has_a_colour_and_a_name_in_both_languages(name):
    assert plot_names.colour(f"base/{name}") == plot_names.colour(name.partition(" ")[0])
    shown = plot_names.label(name)
    assert plot_names.MODELS[name.partition(" ")[0]] in shown
    assert ("with counts" in name) == ("con recuentos" in plots_es.spanish(shown))
    assert "text" not in plots_es.spanish(shown).split()


# ---- training step


def test_ours_is_checked_against_its_reference():
    assert training_step.check_ours() < 1e-9


def test_a_run_writes_every_length_and_adds_to_earlier_ones(results, monkeypatch):
    monkeypatch.setattr(training_step, "check_ours", lambda: 0.0)  # it has a test of its own
    options = ["--no-memory", "--rounds", "1", "--tokens", "16", "--peers", "lstm", "--size", "64"]
    training_step.main([*options, "--lengths", "8"])
    training_step.main([*options, "--lengths", "16", "--vocab", "300"])
    training_step.main(["--flatness", "16", "--lengths", "8", "--rounds", "1"])
    figures = json.loads((results / "training_step.json").read_text())
    assert list(figures["lengths"]) == ["261/8", "300/16"]
    entry = figures["lengths"]["261/8"]["lstm"]
    assert (entry["rows"], entry["tokens"]) == (2, 16)
    ours = figures["lengths"]["261/8"]["liquidlm"]
    assert set(figures["lengths"]["261/8"]) == {
        "liquidlm", "lstm", training_step.IN_TORCH, training_step.LIMIT
    }  # fmt: skip
    assert entry["tokens_per_second"] == pytest.approx(16 / entry["seconds"][0])
    assert entry["ours_over_it"] == pytest.approx(entry["seconds"][0] / ours["seconds"][0])
    assert set(figures["flatness"]["261"]["seconds"]) == {"2 x 8", "1 x 16"}
    assert (results / "training_step.png").stat().st_size > 0


def test_a_step_trains():
    step = training_step.TrainingStep("lstm", 261, training_step.random_ids(261, 2, 16), bf16=False)
    before = step.model.loss(step.ids).item()
    for _ in range(5):
        step()
    assert step.model.loss(step.ids).item() < before
    assert all(p.grad is None for p in step.model.parameters())


def test_a_peer_is_left_out_by_what_is_known():
    given = training_step.arguments(["--peers", "llama", "ltc", "--limit", "10", "--no-memory"])
    comparison = training_step.Comparison(
        given,
        bf16={"llama": False, "ltc": False},
        reach={"ltc": {"length": 64, "stopped": "out of memory"}},
        known={"llama": {"seconds_median": 4.0, "tokens": 1024}},
    )
    assert "64" in comparison._hopeless("ltc", 1, 128) and not comparison._hopeless("ltc", 1, 64)
    assert "12 s" in comparison._hopeless("llama", 3, 1024) and not comparison._hopeless("llama", 2, 1024)
    comparison.known["llama"] = {"left_out": "out of memory"}
    assert comparison._hopeless("llama", 1, 8) == "out of memory"


def test_the_text_gives_the_ids(tmp_path):
    file = tmp_path / "text"
    file.write_text("abc" * 10)
    assert training_step.text_ids(str(file), 261, 4).tolist() == [101, 102, 103, 101]
    with pytest.raises(SystemExit, match="only 30"):
        training_step.text_ids(str(file), 261, 31)


# ---- products


def test_products_are_counted_by_type_in_both_directions():
    x = torch.randn(3, 4, requires_grad=True)
    linear = torch.nn.Linear(4, 5)
    with limits.ProductCounter() as counter:
        y = linear(x)
        forward = dict(counter.products)
        y.sum().backward()
    assert forward == {"float32": 2 * 3 * 4 * 5}
    assert counter.products == {"float32": 3 * 2 * 3 * 4 * 5}  # and the gradients of x and of the weight


def test_batched_products_and_solves_are_counted():
    a, b = torch.randn(2, 3, 4).bfloat16(), torch.randn(2, 4, 5).bfloat16()
    with limits.ProductCounter() as counter:
        torch.baddbmm(torch.zeros(2, 3, 5).bfloat16(), a, b)
        torch.einsum("bij,bjk->bik", a, b)
        torch.zeros(3, 3).addmm_(torch.ones(3, 2), torch.ones(2, 3))
        torch.linalg.solve_triangular(torch.eye(4).expand(2, 4, 4), torch.ones(2, 4, 6), upper=False)
    assert counter.products == {"bfloat16": 2 * 2 * 2 * 3 * 4 * 5, "float32": 2 * 3 * 2 * 3}
    assert counter.solves == {"float32": 2 * 4 * 4 * 6}


def test_shares_of_a_step(results):
    gemm_share.main(["--rows", "2", "--length", "8", "--rounds", "1", "--size", "64"])
    figures = json.loads((results / "gemm_share.json").read_text())
    products = figures["operations"]["gradient"]["products"]
    matrices = 2.4e6  # parameters of linear layers, each in a product forward and two backward
    assert sum(products.values()) > 6 * 16 * matrices
    assert figures["share_of_the_step"] > figures["share_of_the_step_without_the_optimisers_products"] > 0


# ---- embedding stage


def test_ids_follow_zipfs_law():
    ids = embedding_share.zipf_ids(1000, 100, 1000)
    counts = ids.flatten().bincount(minlength=1000)
    harmonic = (1 / torch.arange(1, 1001)).sum()
    for k in (0, 1, 9):
        assert counts[k].item() == pytest.approx(1e5 / (k + 1) / harmonic.item(), rel=0.1)


def test_the_embeddings_share_is_a_part(results):
    embedding_share.main(["--vocab", "300", "--rows", "2", "--length", "16", "--rounds", "1"])
    figures = json.loads((results / "embedding_share.json").read_text())
    assert 0 < figures["share_of_the_step"] < 1
    assert figures["distinct_ids"] <= 32
