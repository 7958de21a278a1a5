"""Models on the Hugging Face hub: what `push_to_hub` uploads is what `hf:USER/NAME` loads, looked up once."""

import io
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub import CommitOperationAdd, HfApi, ModelCard
from huggingface_hub.errors import EntryNotFoundError
from test_fine_tuning import fine_tuning

from liquidlm.cli.generate import generate
from liquidlm.cli.info import info
from liquidlm.inference.hub_models import FILES
from liquidlm.inference.saving import load_model
from liquidlm.training.loop import train
from liquidlm.training.start_checks import check_start


class Hub:
    """A stand-in for the hub's repository `user/name`: a folder, and the number of downloads."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch):
        self.folder, self.downloads = folder, 0
        folder.mkdir(exist_ok=True)
        monkeypatch.setattr(HfApi, "create_repo", lambda _, name, **__: SimpleNamespace(repo_id=name))
        monkeypatch.setattr(HfApi, "create_commit", self.create_commit)
        monkeypatch.setattr(ModelCard, "load", self.no_card)
        monkeypatch.setattr("huggingface_hub.snapshot_download", self.download)

    def create_commit(self, repo_id: str, operations: list[CommitOperationAdd], **_: object) -> None:
        assert repo_id == "user/name"
        for operation in operations:
            with operation.as_file() as file:
                (self.folder / operation.path_in_repo).write_bytes(file.read())

    def no_card(self, *_: object, **__: object) -> None:
        raise EntryNotFoundError("a new repository has no card")

    def download(self, repository: str, **_: object) -> str:
        assert repository == "user/name"
        self.downloads += 1
        return str(self.folder)


def test_what_is_pushed_is_what_is_loaded(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = Hub(tmp_path / "hub", monkeypatch)
    model, tokenizer = load_model(finished)
    model.push_to_hub("user/name")
    tokenizer.backend.push_to_hub("user/name")
    names = {file.name for file in hub.folder.iterdir()}
    assert names >= {"model.safetensors", "config.json", "generation_config.json", "README.md"}
    assert names >= {"tokenizer.json", "tokenizer_config.json"}
    for file in hub.folder.iterdir():  # only what a download asks for is needed
        if not any(file.match(pattern) for pattern in FILES):
            file.unlink()
    loaded, its_tokenizer = load_model("hf:user/name")
    assert {**loaded.config.to_dict(), "_name_or_path": ""} == {**model.config.to_dict(), "_name_or_path": ""}
    expected = model.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in loaded.state_dict().items())
    assert its_tokenizer.encode("one and two").tolist() == tokenizer.encode("one and two").tolist()


def test_a_command_looks_a_model_up_once(
    finished: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    hub = Hub(finished, monkeypatch)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    generate("hf:user/name", "one and", max_new_tokens=2)
    assert capsys.readouterr().out.startswith("one and") and hub.downloads == 1
    info("hf:user/name")
    assert str(finished) in capsys.readouterr().out and hub.downloads == 2
    settings = fine_tuning(text, finished, steps=1)
    settings.source = "hf:user/name"
    check_start(settings, tmp_path / "run")
    train(settings, tmp_path / "run")
    assert hub.downloads == 3
