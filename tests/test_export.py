"""A step as a graph: torch.export and ONNX compute what the model does."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import error, randomise

from liquidlm.errors import LiquidError
from liquidlm.inference.export import CHECKED_STEPS, ExportedStep, export_onnx, write_graph
from liquidlm.inference.saving import load_model
from liquidlm.model.config import LiquidConfig
from liquidlm.model.pretrained import LiquidTextGenerationModel
from liquidlm.text.tokenizer import LEDTokenizerWrapper
from tests import warm

SIZES = {"vocab_size": 261, "embedding_dim": 12, "latent_dim": 8, "hidden_size": 16}
SMALL = {"flow_hidden_dim": 8, "num_flows": 2, "num_heads": 2, "chunk_size": 8, "ngram_rows": 40}
NONLINEAR = {"mixer_types": ["nonlinear", "memory", "nonlinear", "time"]}
TIMED = {"memory_scale": 9.0, "time_components": 3}


def build(**options) -> LiquidTextGenerationModel:
    torch.manual_seed(0)
    return randomise(LiquidTextGenerationModel(LiquidConfig(**SIZES, **SMALL, **options))).eval()


@pytest.mark.parametrize("options", [{}, {"time_scale": 3.0, "num_writes": 2}, NONLINEAR, TIMED])
def test_the_step_is_the_model_from_the_first_token_on(options) -> None:
    model = build(**options).double()
    step = ExportedStep(model)
    assert len(step.empty) == model.config.num_hidden_layers  # no time head's block
    ids = torch.randint(3, 261, (2, 30), generator=torch.Generator().manual_seed(0))
    times = 40 * torch.rand(2, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).cumsum(1)
    gaps = times.diff(dim=1, prepend=times[:, :1])
    state = step.zeros(2)
    found = []
    for column in range(30):
        logits, *state = step(ids[:, column], gaps[:, column], *state)
        found.append(logits)
    assert error(torch.stack(found, 1), model(ids, timestamps=times).logits) < 1e-11


def test_torch_export_takes_any_number_of_rows() -> None:
    step, batch = ExportedStep(build()), torch.export.Dim("batch")
    state = step.zeros(2)
    rows = ({0: batch}, {0: batch}, tuple({0: batch} for _ in state))
    program = torch.export.export(
        step, (torch.tensor([3, 4]), torch.ones(2), *state), dynamic_shapes=rows
    ).module()
    for count in (1, 5):
        given = (
            torch.arange(count) + 7,
            torch.full((count,), 2.5),
            *(torch.randint_like(part, 40) for part in step.zeros(count)),
        )
        for mine, theirs in zip(program(*given), step(*given), strict=True):
            assert error(mine, theirs) < 1e-6


def test_the_graph_is_the_step_in_float64(tmp_path: Path) -> None:
    """Run by ONNX's own reference in numpy: onnxruntime has not all of float64."""
    reference = pytest.importorskip("onnx.reference")
    step = ExportedStep(build(time_scale=2.0, num_hidden_layers=2).double())
    write_graph(step, tmp_path / "step.onnx")
    graph, state = reference.ReferenceEvaluator(str(tmp_path / "step.onnx")), step.zeros(3)
    theirs = {name: part.numpy() for name, part in zip(step.names, state, strict=True)}
    draw = np.random.default_rng(0)
    for number in range(10):
        ids, gap = draw.integers(3, 261, 3), draw.exponential(2.0, 3) * (number > 0)
        logits, *state = step(torch.from_numpy(ids), torch.from_numpy(gap), *state)
        found, *after = graph.run(None, {"ids": ids, "gap": gap, **theirs})
        theirs = dict(zip(step.names, after, strict=True))
        assert error(torch.from_numpy(found), logits) < 1e-6  # torch takes softplus(x) for x above 20


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped model as the command exports it."""
    pytest.importorskip("onnxruntime")
    out = tmp_path_factory.mktemp("exported") / "out"
    done = warm.liquidlm("export", "stories", "--out", out)
    assert done.returncode == 0 and not done.stderr, done.stderr
    said = re.search(r"over 64 steps its logits differ from torch's by at most (\S+)", done.stdout)
    assert said and float(said[1]) <= 1e-5
    return out


def test_the_command_exports(exported: Path) -> None:
    files = {file.name for file in exported.iterdir()}
    assert {"step.onnx", "step.json", "tokenizer.json", "checksums.json"} <= files


def test_onnxruntime_steps_by_the_description(exported: Path) -> None:
    """64 steps of the shipped model against one forward pass, with what a user has: graph and description."""
    onnxruntime = pytest.importorskip("onnxruntime")
    model, tokenizer = load_model("stories")
    about = json.loads((exported / "step.json").read_text())
    session = onnxruntime.InferenceSession(str(exported / "step.onnx"))
    assert [i.name for i in session.get_inputs()] == list(about["inputs"])
    assert [o.name for o in session.get_outputs()] == list(about["outputs"])
    state = {
        name: np.zeros([1, *shape[1:]], np.float32)
        for name, shape in about["inputs"].items()
        if name not in ("ids", "gap")
    }
    restored = LEDTokenizerWrapper(str(exported))
    text = "Once upon a time there was a small dog who liked to sing. " * 8
    ids = np.array([[about["bos_token_id"], *restored.encode(text)]], np.int64)[:, :CHECKED_STEPS]
    found = []
    for column in range(CHECKED_STEPS):
        gap = np.full(1, min(column, 1), np.float32)
        logits, *after = session.run(None, {"ids": ids[:, column], "gap": gap, **state})
        state = dict(zip(state, after, strict=True))
        found.append(torch.from_numpy(logits))
    expected = model(torch.from_numpy(ids)).logits
    difference = (torch.stack(found, 1) - expected).abs().max() / expected.abs().max()
    print(difference.item())
    assert difference < 1e-5
    with pytest.raises(LiquidError, match="exists already"):
        export_onnx(model, tokenizer, exported)


def test_a_graph_that_is_wrong_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    broken = build(num_hidden_layers=2)
    with torch.no_grad():
        broken.output_proj.weight[5] = float("nan")
    with pytest.raises(LiquidError, match="differ from torch's by nan"):
        export_onnx(broken, LEDTokenizerWrapper.bytes(), tmp_path / "out")
    monkeypatch.setattr("liquidlm.inference.export.write_graph", lambda _, file: file.touch())
    monkeypatch.setattr("liquidlm.inference.export.difference", lambda *_: 0.5)
    with pytest.raises(LiquidError, match=r"differ from torch's by 5\.0e-01"):
        export_onnx(build(), LEDTokenizerWrapper.bytes(), tmp_path / "out")
    assert not list(tmp_path.iterdir())
