"""What a run prints: how much it has read, its rate, one unit of loss, and what to do next."""

import re
from pathlib import Path

import pytest
from training import settings

from liquidlm.training import progress
from liquidlm.training.advice import NextStep, advice, busy, next_step, why_training_is_higher
from liquidlm.training.loop import train
from liquidlm.training.progress import read_curve
from liquidlm.training.throughput import WINDOW, Throughput


@pytest.mark.parametrize(
    ("held_out", "training", "passes", "step"),
    [
        ([3.0, 2.0, 2.03], 1.9, 0.5, NextStep.MORE_TEXT),  # worse than its best: before all else
        ([3.0, 2.0, 2.01], 1.9, 1.9, NextStep.MORE_TIME),
        ([3.0, 2.0], 1.91, 2.0, NextStep.LARGER_MODEL),
        ([3.0, 2.0], 1.89, 2.0, NextStep.MORE_TEXT),
        ([], 1.0, 5.0, NextStep.LARGER_MODEL),
    ],
)
def test_the_rule_for_what_to_do_next(
    held_out: list[float], training: float, passes: float, step: NextStep
) -> None:
    assert next_step(held_out, training, passes) is step


def test_each_recommendation_names_what_to_do() -> None:
    assert advice([2.0], 2.0, 0.5, "liquidlm train --resume").endswith("liquidlm train --resume")
    assert "--size" in advice([2.0], 2.0, 5.0, "")
    assert "It overfits" in advice([2.0, 2.5], 1.0, 5.0, "")
    for dropout, known in ((0.0, "--dropout 0.1,"), (0.2, "--dropout 0.25,"), (0.25, "text, or --patience")):
        assert known in advice([2.0, 2.5], 1.0, 5.0, "", dropout)
    overfit, close = advice([2.0, 2.5], 1.0, 5.0, ""), advice([2.0, 2.0], 1.0, 5.0, "")
    assert "more text" in overfit and "more text" in close and "It overfits" not in close


def test_only_reasons_that_are_true_explain_the_training_loss() -> None:
    assert "dropout" not in why_training_is_higher(0.0, False)
    assert "--span" not in why_training_is_higher(0.1, False)
    both = why_training_is_higher(0.1, True)
    assert "dropout" in both and "--span" in both


def test_the_rate_is_that_of_the_last_minute() -> None:
    throughput = Throughput(0.0)
    assert throughput.add(10.0, 1000) == 100.0
    assert throughput.add(WINDOW, 5000) == 100.0
    rates = [throughput.add(WINDOW + second, 7) for second in range(1, 200)]
    assert rates[-1] == pytest.approx(7.0)


def test_a_run_tells_how_far_it_is_in_one_unit(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("liquidlm.training.progress.QUIET", 0.0)
    monkeypatch.setattr("liquidlm.training.text.SAMPLE_BYTES", 300)
    result = train(settings(text, steps=40), tmp_path / "run")
    assert result is not None
    printed = capsys.readouterr().err
    curve = read_curve(tmp_path / "run" / "curve.jsonl")
    passes = [entry["passes"] for entry in curve if "passes" in entry]
    assert passes == sorted(passes) and passes[-1] == pytest.approx(40 * 4 * 32 / 9000, rel=0.3)
    assert "% of the text  " in printed and " tokens/s  training loss " in printed
    assert "nats per token" not in printed
    assert f"Held-out loss: {result.bits_per_byte:.4f} bits per byte, on all" in printed
    last = [entry["valid_bits_per_byte"] for entry in curve if "valid_bits_per_byte" in entry][-1]
    assert re.search(
        rf"a sample of it, (29\d|300) bytes\. The last one says {last:.4f} bits per byte", printed
    )
    assert f"Next: train longer. The text was read {passes[-1]:.1f} times." in printed
    assert f"--resume --out {tmp_path / 'run'} --steps 80" in printed
    assert "note: the training loss may be above the held-out loss: it is an average" in printed


def test_a_run_that_had_little_of_the_processor_says_so() -> None:
    note, alone = busy(100.0, 20.0, threads=2), busy(100.0, 20.0, threads=1)
    assert note is not None and "0.2 of a core" in note and "OMP_NUM_THREADS=1" in note
    assert alone is not None and "OMP_NUM_THREADS" not in alone  # it has one thread already
    assert busy(100.0, 60.0, threads=2) is None and busy(1.0, 0.0, threads=2) is None


def test_work_that_takes_long_is_named_where_there_is_no_terminal(capsys, monkeypatch) -> None:
    monkeypatch.setattr(progress, "PATIENCE", -1.0)
    with progress.progress_bar("learning the tokenizer", None) as advance:
        advance(1)
        advance(1)
    assert capsys.readouterr().err == "learning the tokenizer …\n"
    monkeypatch.setattr(progress, "PATIENCE", 60.0)
    with progress.progress_bar("learning the tokenizer", None) as advance:
        advance(1)
    assert capsys.readouterr().err == ""
