"""The examples run as they are written."""

import runpy
import sys
from pathlib import Path

import pytest

from liquidlm import LEDTokenizerWrapper

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_the_model_whole_and_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    LEDTokenizerWrapper.train(["Texto de ejemplo, y algo de texto más."], 270).save_pretrained(tmp_path)
    monkeypatch.setattr(sys, "argv", ["parts.py", str(tmp_path)])
    runpy.run_path(str(EXAMPLES / "parts.py"), run_name="__main__")
    whole, by_hand = capsys.readouterr().out.splitlines()
    ids, _ = LEDTokenizerWrapper(tmp_path).tokenize("Texto de ejemplo")
    length = ids.shape[1]
    assert whole == f"logits (1, {length}, 32000) log_det (1, {length})"
    assert by_hand == f"by hand: (1, {length}, 256) (1, {length}) (1, {length}, 256) (1, {length}, 32000)"
