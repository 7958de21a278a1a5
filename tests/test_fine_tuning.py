"""`train --from`: weights, sizes and tokenizer of a model, a new optimiser; the model is never written to."""

from pathlib import Path

import pytest
import torch
from test_run_folder import contents
from training import settings, weights

from liquidlm.errors import LiquidError
from liquidlm.inference.checkpoints import checkpoints
from liquidlm.inference.saving import load_model
from liquidlm.runtime.folders import remove_folder
from liquidlm.training.dry_run import Cost, measure_cost
from liquidlm.training.loop import resume, train
from liquidlm.training.progress import read_curve
from liquidlm.training.settings import TrainSettings


def fine_tuning(text: Path, source: Path, **changes: object) -> TrainSettings:
    return settings(text, **{"size": "small", "sizes": {}, "source": str(source), "dropout": 0.0, **changes})


def held_out(folder: Path) -> list[int | float]:
    """The held-out losses of a run."""
    curve = read_curve(folder / "curve.jsonl")
    return [entry["valid_bits_per_byte"] for entry in curve if "valid_bits_per_byte" in entry]


def test_it_starts_from_the_model_and_leaves_it_as_it_is(text: Path, finished: Path, tmp_path: Path) -> None:
    before = contents(finished)
    train(fine_tuning(text, finished, steps=10, lr=1e-6), tmp_path / "run")
    new, _ = load_model(tmp_path / "run")
    old, _ = load_model(finished)
    expected = {**old.config.to_dict(), "dropout_rate": 0.0, "_name_or_path": new.config._name_or_path}
    assert new.config.to_dict() == expected
    tuned, source = weights(tmp_path / "run"), weights(finished)
    assert all(torch.allclose(tuned[name], source[name], atol=1e-2) for name in source)
    losses, source_losses = (held_out(folder) for folder in (tmp_path / "run", finished))
    assert losses[0] == pytest.approx(source_losses[-1], abs=0.02) and losses[0] < source_losses[0] - 0.5
    assert contents(finished) == before


def test_it_resumes_bit_for_bit_without_the_model_it_came_from(
    text: Path, copied: Path, tmp_path: Path
) -> None:
    train(fine_tuning(text, copied, steps=4, dropout=0.1), tmp_path / "tuned")
    expected = weights(tmp_path / "tuned")
    remove_folder(checkpoints(tmp_path / "tuned")[0])
    remove_folder(copied)
    resume(tmp_path / "tuned")
    found = weights(tmp_path / "tuned")
    assert all(torch.equal(expected[name], found[name]) for name in expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"tokenizer": "bpe:300"},
            "tokenizer of its model: leave --tokenizer out",
        ),
        ({"size": "base"}, "leave --size out"),
        ({"sizes": {"hidden_size": 64}}, "leave --sizes out"),
    ],
)
def test_settings_that_contradict_the_model_are_refused(
    text: Path, finished: Path, changes: dict, message: str
) -> None:
    with pytest.raises(LiquidError, match=message):
        fine_tuning(text, finished, **changes)


def test_a_source_that_does_not_fit_is_refused(text: Path, finished: Path, tmp_path: Path) -> None:
    with pytest.raises(LiquidError, match="choose an --out other than"):
        train(fine_tuning(text, finished), finished)
    with pytest.raises(LiquidError, match="is not a folder"):
        train(fine_tuning(text, tmp_path / "none"), tmp_path / "run")
    timed = tmp_path / "timed.txt"
    timed.write_text("\n".join(f"[{3 * i}.5] {line}" for i, line in enumerate(text.read_text().splitlines())))
    with pytest.raises(LiquidError, match="trained without times: leave --timestamps out"):
        train(fine_tuning(timed, finished, timestamps=True), tmp_path / "run")
    train(settings(timed, steps=2, timestamps=True, span=50), tmp_path / "with_times")
    assert train(fine_tuning(timed, tmp_path / "with_times", steps=2, timestamps=True), tmp_path / "a")
    assert train(fine_tuning(text, tmp_path / "with_times", steps=2), tmp_path / "b")
    assert load_model(tmp_path / "b")[0].config.time_components


def test_a_dry_run_measures_and_writes_nothing(text: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    chosen = settings(text, steps=50)
    cost = measure_cost(chosen, torch.device("cpu"))
    assert not list(tmp_path.iterdir())
    assert cost.tokens_per_step == 4 * 32 and cost.seconds_per_step > 0 and cost.memory > 10**7
    assert cost.tokens > 5000 and cost.vocabulary == 261


def test_the_lines_of_a_dry_run() -> None:
    cost = Cost(5_000_000, 10_000, 40_000, 300, 100, 0.5, 2 * 10**9, torch.device("cpu"))
    printed = "\n".join(cost.lines(TrainSettings(minutes=1.0)))
    assert "10,000 tokens, 40,000 bytes" in printed and "5,000,000 parameters" in printed
    assert "2.00 GB" in printed and "200 tokens/s" in printed
    assert "120 steps, about 1.0 minutes, about 1.20 passes" in printed
    assert cost.steps(TrainSettings(steps=7)) == 7


def test_a_model_on_the_hub_without_network_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        LiquidError, match=r"hf:no-one/nothing cannot be downloaded .*check the name"
    ) as caught:
        load_model("hf:no-one/nothing")
    assert "\n" not in str(caught.value)
    with pytest.raises(LiquidError, match="hf:USER/NAME for a model on the hub"):
        load_model("no-one/nothing")


def test_a_model_on_the_hub_loads_from_the_cache(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}

    def snapshot(repository: str, **options: object) -> str:
        asked.update(repository=repository, **options)
        return str(finished)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    model, _ = load_model("hf:user/name@v1")
    assert asked["repository"] == "user/name" and asked["revision"] == "v1"
    assert not any("py" in pattern or "bin" in pattern for pattern in asked["allow_patterns"])
    assert all(torch.equal(model.state_dict()[name], value) for name, value in weights(finished).items())
