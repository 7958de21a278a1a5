"""Hugging Face data sets as text, offline."""

import json
from pathlib import Path

import pytest

from liquidlm.errors import LiquidError
from liquidlm.text.corpus import read_documents
from liquidlm.text.held_out import survey
from liquidlm.text.hub import DatasetName, parse_name
from liquidlm.training.loop import train
from liquidlm.training.settings import TrainSettings
from liquidlm.training.text import prepare

datasets = pytest.importorskip("datasets", reason="the extra 'datasets' is not installed")
huggingface_hub = pytest.importorskip("huggingface_hub")

TEXTS = [f"Document {i} of a data set: señor, {'word ' * i}" for i in range(40)]


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for settings in (datasets.config, huggingface_hub.constants):  # they read the environment when imported
        monkeypatch.setattr(settings, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    """The same texts as Parquet, as JSON lines, and as `save_to_disk` writes them."""
    rows = datasets.Dataset.from_dict({"text": TEXTS, "number": list(range(len(TEXTS)))})
    (tmp_path / "parquet").mkdir()
    rows.to_parquet(tmp_path / "parquet" / "train.parquet")
    (tmp_path / "json").mkdir()
    (tmp_path / "json" / "train.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    rows.save_to_disk(tmp_path / "disk")
    datasets.DatasetDict({"train": rows, "other": rows.select([3])}).save_to_disk(tmp_path / "splits")
    return {name: tmp_path / name for name in ("parquet", "json", "disk", "splits")}


@pytest.mark.parametrize("name", ["parquet", "json", "disk", "splits"])
@pytest.mark.parametrize("options", ["", "?stream=1"])
def test_every_row_is_a_document(folders: dict[str, Path], name: str, options: str) -> None:
    found = list(read_documents(f"hf:{folders[name]}{options}"))
    assert [document.text for document in found] == TEXTS


def test_the_first_rows_another_split_and_parts(folders: dict[str, Path]) -> None:
    found = read_documents(f"hf:{folders['parquet']}?first=3&split=train")
    assert [document.text for document in found] == TEXTS[:3]
    assert [document.text for document in read_documents(f"hf:{folders['splits']}?split=other")] == [TEXTS[3]]
    pieces = list(read_documents([str(folders["json"] / "train.jsonl"), f"hf:{folders['disk']}"], 20))
    assert survey(pieces).paths.tolist() == [0] * 40 + [1] * 40
    assert survey(pieces).lengths.tolist() == 2 * [len(text) for text in TEXTS]


def test_names() -> None:
    assert parse_name("hf:a/b") == DatasetName("a/b")
    named = parse_name("hf:a/b?split=validation&column=story&config=en&first=7&stream=1")
    assert named == DatasetName("a/b", "validation", "story", "en", 7, stream=True)
    for wrong in ("hf:a?splt=x", "hf:a?first=x", "hf:a?first=0", "hf:a?stream="):
        with pytest.raises(LiquidError, match=r"options after \? are"):
            read_documents(wrong)


@pytest.mark.parametrize(
    ("options", "said"),
    [("?column=number", "is not text but int"), ("?column=body", "'body'"), ("?split=valid", "valid")],
)
def test_what_is_not_in_a_data_set_is_one_clear_error(folders, options: str, said: str) -> None:
    with pytest.raises(LiquidError, match=said) as caught:
        list(read_documents(f"hf:{folders['parquet']}{options}"))
    assert "\n" not in str(caught.value)


def test_a_data_set_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(LiquidError, match="cannot be read"):
        list(read_documents("hf:nobody/nothing"))


def test_sources_with_weights_train(folders: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "own.txt").write_text("My own text. " * 200)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "embedding_dim": 16, "latent_dim": 8}
    paths = [str(tmp_path / "own.txt"), f"hf:{folders['parquet']}"]
    settings = TrainSettings(
        paths, [2.0, 0.5], steps=6, sizes=dict(sizes), context=32, batch_size=4, bf16=False
    )
    corpus = prepare(settings).train
    assert corpus.weights.tolist() == [2.0] + [0.5] * (len(corpus.weights) - 1)  # type: ignore
    assert train(settings, tmp_path / "run") is not None
    with pytest.raises(LiquidError, match="weights must have one number for each path: 1 for 2 paths"):
        TrainSettings(paths, [1.0], steps=1)
