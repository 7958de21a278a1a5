"""Training: it learns, it resumes exactly, and no interruption or damage loses what was done."""

import itertools
import json
import math
import os
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from training import ALONE, settings, weights

from liquidlm.errors import LiquidError
from liquidlm.inference.checkpoints import checkpoints
from liquidlm.inference.saving import load_model
from liquidlm.model.block import LiquidBlock
from liquidlm.model.pretrained import LiquidTextGenerationModel
from liquidlm.runtime.checksums import verify
from liquidlm.runtime.folders import remove_folder
from liquidlm.text import builtin
from liquidlm.text.corpus import Document
from liquidlm.training import loop as training
from liquidlm.training.loop import resume, train
from liquidlm.training.optim import clip_gradients
from liquidlm.training.progress import plot_curve, read_curve
from liquidlm.training.text import _head, prepare
from liquidlm.training.trainer import ROLL_BACK, EarlyStopping, Trainer
from tests import warm


def test_a_run_learns_and_leaves_a_model_that_loads(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drawn
) -> None:
    monkeypatch.setattr(training, "EVALUATIONS", 5)  # a curve is drawn at each
    out = tmp_path / "run"
    result = train(settings(text, steps=60, dropout=0.0, lr=0.04), out)
    assert result is not None and result.bits_per_byte < 1  # uniform over 261 tokens: 8.03
    curve = read_curve(out / "curve.jsonl")
    tried = [entry["valid_bits_per_byte"] for entry in curve if "valid_bits_per_byte" in entry]
    print(tried)
    assert len(tried) == training.EVALUATIONS and tried[-1] < 0.6 * tried[0]
    assert (out / "curve.png").read_bytes().startswith(b"\x89PNG")
    verify(out)
    model, tokenizer = load_model(out)
    assert not model.training and tokenizer.vocab_size == model.config.vocab_size == 261
    assert not list(out.rglob("*.bin")) and not list(out.rglob("*.pt"))  # nothing pickled


def test_the_vocabulary_survives_the_flow_after_training_on_real_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """id → embedding → z → inverse(z) → nearest embedding, on the documentation that Python carries."""
    for name in ("SAMPLE_BYTES", "FINAL_BYTES"):  # the loss is not what is asked
        monkeypatch.setattr(f"liquidlm.training.text.{name}", 3000)
    documents = itertools.chain(builtin._topics(), builtin._module_docstrings())  # only as many as are needed
    lines = itertools.islice((line for document in documents for line in document.text.split("\n")), 5000)
    (tmp_path / "docs.txt").write_text("\n".join(lines))
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "embedding_dim": 512, "latent_dim": 128}
    chosen = settings(tmp_path / "docs.txt", 40, tokenizer="bpe:4000", sizes=sizes, batch_size=8, dropout=0.0)
    train(chosen, tmp_path / "run")
    model, _ = load_model(tmp_path / "run")
    survival = model.embedding.round_trip_survival()
    assert survival >= 0.99
    assert f"Tokens that survive embedding ▶ z ▶ inverse: {survival:.2%}" in capsys.readouterr().err


def test_a_large_text_is_trained_on_from_a_file_as_from_memory(
    text: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setenv("LIQUIDLM_CACHE", str(tmp_path / "cache"))
    train(settings(text, steps=5, tokenizer="bpe:300"), tmp_path / "memory")
    monkeypatch.setattr("liquidlm.training.text.IN_MEMORY", 100)
    train(settings(text, steps=5, tokenizer="bpe:300"), tmp_path / "file")
    assert list((tmp_path / "cache").rglob("tokens.bin"))
    kept, stored = (weights(tmp_path / name) for name in ("memory", "file"))
    assert all(torch.equal(kept[name], stored[name]) for name in kept)
    resume(tmp_path / "file", steps=6)


def test_recomputed_activations_train_the_same_model(text: Path, tmp_path: Path, monkeypatch) -> None:
    passes: dict[str, int] = {}
    through = LiquidBlock.forward

    def counted(self, *given):
        passes[name] = passes.get(name, 0) + self.training
        return through(self, *given)

    monkeypatch.setattr(LiquidBlock, "forward", counted)
    for name, recompute in (("kept", False), ("recomputed", True)):
        assert train(settings(text, steps=4, recompute=recompute), tmp_path / name) is not None
    assert passes["recomputed"] == 2 * passes["kept"] >= 8  # again in the backward pass
    kept, recomputed = (weights(tmp_path / name) for name in ("kept", "recomputed"))
    assert all(torch.equal(kept[name], recomputed[name]) for name in kept)


def test_a_run_by_the_clock_ends_and_writes_tensorboard(text: Path, tmp_path: Path) -> None:
    assert train(settings(text, None, minutes=0.03, tensorboard=True), tmp_path) is not None
    curve = read_curve(tmp_path / "curve.jsonl")
    assert curve[-1]["seconds"] >= 0.03 * 60
    assert list((tmp_path / "tensorboard").glob("events*"))


def test_a_resumed_run_by_the_clock_has_used_its_time(text: Path, tmp_path: Path, monkeypatch) -> None:
    ticks = itertools.count()
    monkeypatch.setattr(
        training,
        "time",
        SimpleNamespace(perf_counter=lambda: 0.1 * next(ticks), process_time=time.process_time),
    )
    train(settings(text, None, minutes=0.05), tmp_path)
    before = read_curve(tmp_path / "curve.jsonl")[-1]["seconds"]
    resume(tmp_path, minutes=0.1)
    seconds = [entry["seconds"] for entry in read_curve(tmp_path / "curve.jsonl")]
    assert seconds == sorted(seconds) and before <= min(t for t in seconds if t >= before) < before + 1
    newest = json.loads((checkpoints(tmp_path)[0] / "run.json").read_text())
    assert 6 <= newest["seconds"] < 6.5 and newest["step"] < 60  # of 0.1 s or more


def test_a_new_best_restarts_the_count_of_worse_rounds() -> None:
    early_stopping = EarlyStopping()
    for step, bits in enumerate((3.0, 4.0, 2.0, 2.5, 2.0)):
        early_stopping.add(bits, step)
        assert early_stopping.worse == (0, 1, 0, 1, 2)[step]
    assert (early_stopping.best, early_stopping.best_step) == (2.0, 2)


def dies_after(steps: int):
    """A training loop that saves after so many steps and ends as if killed."""

    def loop(run: Trainer, report: object, stopped: object) -> None:
        for _ in range(steps):
            run.train_step()
        run.save()
        raise KeyboardInterrupt

    return loop


def test_a_finished_run_that_goes_on_is_no_longer_what_was_exported(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(settings(text, steps=4), tmp_path)
    exported = weights(tmp_path)

    with monkeypatch.context() as patch:
        patch.setattr(training, "_loop", dies_after(1))
        with pytest.raises(KeyboardInterrupt):
            resume(tmp_path, steps=8)
    loaded = load_model(tmp_path)[0].state_dict()  # the newest checkpoint's, not the old export's
    assert any(not torch.equal(exported[name], loaded[name]) for name in exported)
    resume(tmp_path)
    assert any(not torch.equal(loaded[name], value) for name, value in weights(tmp_path).items())


@pytest.mark.parametrize("changes", [{}, {"accumulate": 2}, {"timestamps": True, "span": 50}])
def test_a_resumed_run_equals_the_uninterrupted_one_bit_for_bit(
    text: Path, tmp_path: Path, changes: dict
) -> None:
    if "timestamps" in changes:
        lines = text.read_text().splitlines()
        text = tmp_path / "timed.txt"
        text.write_text("\n".join(f"[{i * i % 7 + 9 * i}.5] {line}" for i, line in enumerate(lines)))
    train(settings(text, steps=12, **changes), tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    late = sorted(checkpoints(tmp_path / "cut"))[0]  # the one before the last
    step = json.loads((late / "run.json").read_text())["step"]
    assert 0 < step < 12
    for newer in checkpoints(tmp_path / "cut"):
        if newer != late:
            remove_folder(newer)
    for file in (tmp_path / "cut").glob("*.*"):
        file.unlink()
    resume(tmp_path / "cut")
    expected, resumed = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert expected.keys() == resumed.keys()
    assert all(torch.equal(expected[name], resumed[name]) for name in expected)
    assert [e["step"] for e in read_curve(tmp_path / "cut/curve.jsonl")][-1] == 12


def failing(monkeypatch: pytest.MonkeyPatch, *calls: int) -> None:
    """The loss of these calls of the model while training is not a number."""
    forward, count = LiquidTextGenerationModel.forward, iter(range(10**9))

    def poisoned(self, *given, **named):
        output = forward(self, *given, **named)
        if self.training and next(count) in calls:
            output.loss = output.loss * float("nan")  # pyright: ignore[reportOptionalOperand]
        return output

    monkeypatch.setattr(LiquidTextGenerationModel, "forward", poisoned)


def test_a_step_that_is_not_finite_is_left_out(text: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    failing(monkeypatch, 1, 3)
    run = Trainer(chosen := settings(text, steps=6), prepare(chosen), tmp_path, ALONE)
    assert run.train_step() is not None
    kept, state = (
        {k: v.clone() for k, v in part.items()} for part in (run.model.state_dict(), run.state.tensors())
    )
    assert run.train_step() is None and run.step == 2 and run.skipped == 1
    assert all(torch.equal(kept[name], value) for name, value in run.model.state_dict().items())
    assert all(torch.equal(state[name], value) for name, value in run.state.tensors().items())
    assert run.train_step() is not None and run.skipped == 0
    failing(monkeypatch, 2)
    assert train(settings(text, steps=6), tmp_path / "run") is not None
    assert "step 3: the loss or its gradient is not finite" in capsys.readouterr().err
    assert all(value.isfinite().all() for value in weights(tmp_path / "run").values())


def test_many_such_steps_go_back_to_the_last_checkpoint(
    text: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    failing(monkeypatch, *range(4, 4 + ROLL_BACK))
    taken = []
    roll_back = Trainer.roll_back

    def noted(run: Trainer) -> str:
        name = roll_back(run)
        saved = load_file(tmp_path / "run" / "checkpoints" / name / "model.safetensors")
        taken.extend(torch.equal(saved[key], value) for key, value in run.model.named_parameters())
        taken.append(run.state.states() == run.model.new_state().states())  # nothing was read
        return name

    monkeypatch.setattr(Trainer, "roll_back", noted)
    assert train(settings(text, steps=12), tmp_path / "run") is not None
    assert taken and all(taken)
    assert "going back to the weights of step-" in capsys.readouterr().err


@pytest.mark.parametrize(("first", "said"), [(0, "before the first checkpoint"), (4, "--resume --lr")])
def test_a_training_that_stays_so_ends(
    text: Path, tmp_path: Path, monkeypatch, first: int, said: str
) -> None:
    failing(monkeypatch, *range(first, 1000))
    with pytest.raises(LiquidError, match=said):
        train(settings(text, steps=1000 if first == 0 else 40), tmp_path)


def test_batches_of_a_step_are_averaged_and_carry_the_state(text: Path, tmp_path: Path) -> None:
    single, double = (
        Trainer(chosen := settings(text, dropout=0.0, accumulate=parts), prepare(chosen), tmp_path, ALONE)
        for parts in (1, 2)
    )
    first = double.batches.next_batch()
    double.batches.load_state_dict(single.batches.state_dict())
    double.model.eval()
    given = {"starts": first.starts, "shift_labels": first.targets}
    alone = double.model(first.input_ids, **given).loss.item()  # without what the flow is trained by
    double.model.train()
    losses = [single._backward(1)[0] for _ in range(2)]
    assert losses[0] == pytest.approx(alone, rel=1e-5)
    for parameter in single.model.parameters():
        parameter.grad = None if parameter.grad is None else parameter.grad / 2
    norm = clip_gradients(single.model.parameters())
    single.optimisers.step(0, 0.0)
    step = double.train_step()
    assert step is not None and step.token_loss == pytest.approx(sum(losses) / 2)
    assert step.gradient_norm == pytest.approx(norm, rel=1e-4)
    assert double.batches.state_dict() == single.batches.state_dict()
    for mine, theirs in zip(double.model.parameters(), single.model.parameters(), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-6)
    assert double.state.get_seq_length() == 2 * 32


def test_a_run_that_gets_no_better_stops_and_keeps_its_best(
    text: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    scores = iter([3.0, 2.5, 2.0, 2.1, 2.2, 2.3, 1.0, 1.0, 1.0, 1.0])
    evaluate = Trainer.evaluate

    def scripted(run: Trainer, corpus):
        result = evaluate(run, corpus)
        assert result is not None
        return (
            replace(result, nats=next(scores) * math.log(2) * result.bytes)
            if corpus is run.texts.sample
            else result
        )

    monkeypatch.setattr(Trainer, "evaluate", scripted)
    assert train(settings(text, steps=20, patience=3, warmup=7), tmp_path) is not None
    assert "not improved for 3 evaluations. The model is that of step 6" in capsys.readouterr().err
    steps = [folder.name for folder in checkpoints(tmp_path)]
    assert steps == ["step-00000012", "step-00000010", "step-00000006"]  # the newest two and the best
    exported, best = weights(tmp_path), weights(tmp_path / "checkpoints" / steps[-1])
    assert all(torch.equal(exported[name], best[name]) for name in best)
    (tmp_path / "model.safetensors").unlink()
    resume(tmp_path)  # it has stopped already, and is only exported again
    assert all(torch.equal(weights(tmp_path)[name], best[name]) for name in best)


def test_tensorboard_shows_gradients_and_time_constants(text: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(settings(text, steps=10, tensorboard=True), tmp_path)
    events = EventAccumulator(str(tmp_path / "tensorboard"), {"histograms": 0}).Reload()
    parts = ["block 0", "block 1", "embedding", "ngrams", "norm", "output_proj"]
    assert set(parts) == {
        tag.split("/")[1] for tag in events.Tags()["scalars"] if tag.startswith("gradient/")
    }
    assert all(event.value > 0 for event in events.Scalars("gradient/block 1"))
    spread = events.Histograms("log10_time_constant/block 0")
    assert len(spread) == training.EVALUATIONS
    assert spread[0].histogram_value.min >= 0 and spread[0].histogram_value.max <= 5


def test_a_signal_saves_and_says_how_to_go_on(text: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = ["train", str(text), "--out", str(out), "--steps", "100000"]
    command += ["--size", "tiny", "--hidden-size", "32", "--layers", "2", "--context", "32", "--batch", "4"]
    messages = tmp_path / "messages.txt"
    with messages.open("w") as err, open(os.devnull, "r+") as nothing:
        process = warm.start(command, nothing.fileno(), nothing.fileno(), err.fileno())
    deadline = time.monotonic() + 60
    while not (out / "curve.jsonl").exists() or not read_curve(out / "curve.jsonl"):
        assert process.poll() is None, messages.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    said = messages.read_text()
    assert f"Continue with: liquidlm train --resume --out {out}" in said
    (saved,) = checkpoints(out)
    step = json.loads((saved / "run.json").read_text())["step"]
    assert step >= 10
    load_model(out)  # an unfinished run already writes
    result = resume(out, steps=step + 2)
    assert result is not None
    assert read_curve(out / "curve.jsonl")[-1]["step"] == step + 2


def test_the_sample_of_the_held_out_text_has_the_size_asked_for() -> None:
    few = [Document("x" * 1000, "a"), Document("é" * 1000, "b")]
    assert [len(document.text) for document in _head(few, 2, 400)] == [200, 100]
    many = [Document("x" * 30, str(i)) for i in range(20)]
    assert sum(len(document.text) for document in _head(many, 20, 100)) == 100


def test_a_text_shorter_than_a_batch_and_a_folder_that_is_taken(
    text: Path, finished: Path, tmp_path: Path
) -> None:
    with pytest.raises(LiquidError, match="--context"):
        train(settings(text, context=100_000), tmp_path / "short")
    with pytest.raises(LiquidError, match="already holds a run"):
        train(settings(text, steps=2), finished)
    with pytest.raises(LiquidError, match="no checkpoint"):
        resume(tmp_path / "nothing")


def test_a_run_that_torchrun_starts_again_goes_on_if_it_is_that_run(
    text: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(training, "_loop", dies_after(5))
        with pytest.raises(KeyboardInterrupt):
            train(settings(text, steps=12), tmp_path / "cut")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    with pytest.raises(LiquidError, match="already holds a run"):
        train(settings(text, steps=12, lr=0.01), tmp_path / "cut")
    train(settings(text, steps=12), tmp_path / "cut")
    expected, found = weights(finished), weights(tmp_path / "cut")
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_a_cut_line_of_the_curve_is_left_out_and_the_rest_drawn(tmp_path: Path) -> None:
    file = tmp_path / "curve.jsonl"
    file.write_text('{"step": 1, "seconds": 2.0, "train_bits_per_byte": 4.0}\n{"step": 2, "sec')
    assert [entry["step"] for entry in read_curve(file)] == [1]
    assert plot_curve(read_curve(file), tmp_path / "curve.png").stat().st_size > 1000
