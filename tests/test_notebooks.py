"""The notebook runs from the first cell to the last, offline, and has the same code in both languages."""

import ast
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

EXAMPLES = Path(__file__).parents[1] / "examples"
NAMES = ("quickstart", "primeros-pasos")


def read(name: str) -> nbformat.NotebookNode:
    return nbformat.read(EXAMPLES / f"{name}.ipynb", as_version=4)


def without_words(source: str) -> str:
    """The code without strings that have a space in them: labels may be in any language, names may not."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            node.value = ""
    return ast.dump(tree)


SHORTER = """
import liquidlm.training.text
liquidlm.training.text.FINAL_BYTES = liquidlm.training.text.SAMPLE_BYTES = 3000
"""
"""Run before the training: less held-out text is read. The notebook's own code is as its readers run it."""


def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in {
        "LIQUIDLM_NOTEBOOK_MINUTES": "0.02",
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "PYTHONPATH": str(EXAMPLES.parent),
    }.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.delenv("MPLBACKEND", raising=False)  # plots go into the notebook, no window opens
    book = read("quickstart")
    training = next(at for at, cell in enumerate(book.cells) if "train(settings" in cell.source)
    book.cells.insert(training, nbformat.v4.new_code_cell(SHORTER))
    NotebookClient(
        book, timeout=600, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    ).execute()
    outputs = [output for cell in book.cells for output in cell.get("outputs", [])]
    shown = [output.get("text") or output["data"]["text/plain"] for output in outputs]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 4
    assert any("held-out" in text for text in shown)
    assert re.search(r"\d+ tokens, [\d,]+ bytes", "".join(shown))
    assert [output.text for output in outputs if output.get("name") == "stderr"] == []


def test_both_notebooks_have_the_same_code() -> None:
    english, spanish = (list(read(name).cells) for name in NAMES)
    assert [cell.cell_type for cell in english] == [cell.cell_type for cell in spanish]
    for one, other in zip(english, spanish, strict=True):
        if one.cell_type == "code":
            assert without_words(one.source) == without_words(other.source)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_stored_without_outputs(name: str) -> None:
    for cell in read(name).cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
