"""Checkpoints and model folders: damaged, of other models, half written: named, and nothing lost."""

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import save_file
from training import ALONE, TINY, settings, weights

from liquidlm import LEDTokenizerWrapper
from liquidlm.errors import LiquidError
from liquidlm.inference.checkpoints import checkpoints, newest_undamaged
from liquidlm.inference.saving import load_model
from liquidlm.runtime.checksums import MANIFEST, verify
from liquidlm.runtime.folders import merge_into, write_folder
from liquidlm.training.loop import resume, train
from liquidlm.training.text import prepare
from liquidlm.training.trainer import Trainer
from liquidlm.training.trainer_state import TrainerState


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    newest, older = checkpoints(copied)
    file = newest / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-100] ^= 1  # one flipped bit: safetensors alone would load it
    file.write_bytes(data)
    chosen, wrong = newest_undamaged([newest, older])
    assert chosen == older and str(file) in wrong[0]
    resume(copied)
    assert f"{file} is damaged" in "".join(capsys.readouterr().err.split("\n"))


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "checksums.json"])
def test_a_truncated_or_missing_file_is_one_clear_error(copied: Path, name: str) -> None:
    file = copied / name
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(LiquidError, match=r"damaged|written completely"):
        load_model(copied)


def test_a_truncated_model_without_checksums_is_an_error_too(copied: Path) -> None:
    (copied / "checksums.json").unlink()
    file = copied / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(LiquidError, match="cannot be read"):
        load_model(copied)


def test_weights_that_are_missing_are_an_error_not_a_random_model(copied: Path) -> None:
    (copied / "checksums.json").unlink()
    kept = {name: value for name, value in weights(copied).items() if name != "embedding.gain"}
    save_file(kept, copied / "model.safetensors", {"format": "pt"})
    with pytest.raises(LiquidError, match=r"embedding\.gain"):
        load_model(copied)


def test_a_tokenizer_of_another_vocabulary_is_refused(text: Path, copied: Path) -> None:
    (copied / "checksums.json").unlink()
    LEDTokenizerWrapper.train([text.read_text()], 300).save_pretrained(copied)
    with pytest.raises(LiquidError, match="do not belong together"):
        load_model(copied)


def test_a_checkpoint_of_another_version_is_one_clear_error(copied: Path) -> None:
    file = checkpoints(copied)[0] / "run.json"
    progress = json.loads(file.read_text(encoding="utf-8"))
    for other, said in (
        (
            {name: value for name, value in progress.items() if name != "early_stopping"},
            "'early_stopping' is missing",
        ),
        ({**progress, "settings": {**progress["settings"], "heat": 3}}, "heat is not a setting"),
        ({**progress, "settings": {**progress["settings"], "lr": "fast"}}, "lr must be a number"),
    ):
        file.write_text(json.dumps(other), encoding="utf-8")
        with pytest.raises(LiquidError, match=f"another version of liquidlm .*{said}"):
            TrainerState.read(file.parent)


def test_a_checkpoint_of_a_model_of_another_shape_is_one_clear_error(text: Path, tmp_path: Path) -> None:
    chosen = settings(text, steps=2, sizes={**TINY, "tie_word_embeddings": False})
    train(chosen, tmp_path)
    chosen.sizes = TINY  # as if this version made another model of the same settings
    run = Trainer(chosen, prepare(chosen), tmp_path, ALONE)
    with pytest.raises(LiquidError, match=r"does not fit the model of this version .*start a new run"):
        run.load(checkpoints(tmp_path)[0])


def test_other_text_cannot_be_resumed_with(text: Path, tmp_path: Path) -> None:
    file = tmp_path / "copy.txt"
    file.write_text(text.read_text())
    train(settings(file, steps=12), tmp_path / "run")
    file.write_text(text.read_text()[::-1])  # as many tokens, other ones
    with pytest.raises(LiquidError, match="cannot resume"):
        resume(tmp_path / "run", steps=20)


def test_a_folder_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    write_folder(folder, lambda part: (part / "a").write_text("old") and None)

    def fails(part: Path) -> None:
        (part / "a").write_text("new")
        raise OSError(28, "No space left on device")

    with pytest.raises(LiquidError, match="No space left on device"):
        write_folder(folder, fails)
    with pytest.raises(LiquidError, match="No space left on device"):
        merge_into(folder, fails, seal="a")
    verify(folder)
    assert (folder / "a").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_another_held_out_text_cannot_be_resumed_with(text: Path, tmp_path: Path) -> None:
    file = tmp_path / "valid.txt"
    file.write_text("one and two make three", encoding="utf-8")
    train(settings(text, steps=2, valid=[str(file)]), tmp_path / "run")
    checkpoint = checkpoints(tmp_path / "run")[0]
    file.write_text("two and one make three", encoding="utf-8")
    with pytest.raises(LiquidError, match="the held-out text has changed"):
        resume(tmp_path / "run", steps=4)
    progress = json.loads((checkpoint / "run.json").read_text(encoding="utf-8"))
    del progress["held_out"]  # as the first versions wrote it
    progress["rounds"] = progress.pop("early_stopping")
    write_folder(
        checkpoint,
        lambda part: [
            *(shutil.copy(one, part) for one in checkpoint.iterdir() if one.name != MANIFEST),
            (part / "run.json").write_text(json.dumps(progress), encoding="utf-8"),
        ],
    )
    assert resume(tmp_path / "run", steps=4) is not None
