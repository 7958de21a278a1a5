"""Killed at any moment, also while it saves, or with no room to save: a run goes on as if nothing was."""

import json
import os
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from liquidlm.training import loop as training
from liquidlm.training.settings import TrainSettings
from tests import warm

KILLS = 6
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "embedding_dim": 16, "latent_dim": 8}
RUN = """
import os, sys
from pathlib import Path
from tests import test_kills
from liquidlm.training import loop as training, progress as report
report.plot_curve = lambda entries, file: file  # which would take most of the time
text, out = Path(sys.argv[1]), Path(sys.argv[2])
def run():
    test_kills.run(text, out)
"""
KILLER = (
    RUN
    + """
training.EVALUATIONS = 40  # saves all the time
import json, random, signal, time
kills, while_saving, draw = 0, 0, random.Random(0)
while not (out / "model.safetensors").exists():
    child = os.fork()
    if child == 0:
        run()
        os._exit(0)
    if kills < int(sys.argv[3]):
        # From the start of a run to some saves later, and half of the time as soon as a save begins.
        saving = lambda: any((out / "checkpoints").glob(".step-*.part"))
        end, soon = time.monotonic() + draw.uniform(0.05, 0.6), draw.random() < 0.5
        while time.monotonic() < end or (soon and not saving() and time.monotonic() < end + 5):
            time.sleep(0.0005)
            if os.waitpid(child, os.WNOHANG)[0]:
                break
        else:
            while_saving += saving()
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            kills += 1
            continue
    else:
        os.waitpid(child, 0)
print(json.dumps({"kills": kills, "while saving": while_saving}))
"""
)


def run(text: Path, out: Path) -> None:
    """Begin the run, or go on with it."""
    if any((out / "checkpoints").glob("step-*")):
        training.resume(out)
    else:
        given = {"paths": [str(text)], "steps": 80, "size": "tiny", "sizes": dict(SIZES), "context": 32}
        given |= {"batch_size": 4, "bf16": False, "dropout": 0.1, "accumulate": 2}
        training.train(TrainSettings(**given), out)


def python(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return warm.run(arguments, program=program)


def whole(text: Path, out: Path) -> None:
    """The run to its end, without the shape checks of the tests, which take most of the time."""
    done = python(RUN + "run()", text, out)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("text") / "numbers.txt"
    file.write_text(" ".join(str(i * i % 977) for i in range(4000)))
    return file


@pytest.fixture(scope="module")
def uninterrupted(text: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    """The weights of the run that nothing interrupts, and that seldom saves."""
    out = tmp_path_factory.mktemp("uninterrupted")
    whole(text, out)
    return load_file(out / "model.safetensors")


def equal(out: Path, uninterrupted: dict[str, torch.Tensor]) -> bool:
    weights = load_file(out / "model.safetensors")
    return weights.keys() == uninterrupted.keys() and all(
        torch.equal(weights[k], uninterrupted[k]) for k in uninterrupted
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked: none need import torch")
def test_killed_again_and_again_the_weights_are_the_same_bit_for_bit(
    text: Path, uninterrupted, tmp_path: Path
) -> None:
    done = python(KILLER, text, tmp_path / "run", KILLS)
    assert done.returncode == 0, done.stderr
    counted = json.loads(done.stdout)
    print(counted)
    assert counted["kills"] >= KILLS and counted["while saving"] >= 1
    assert equal(tmp_path / "run", uninterrupted)


def test_no_room_to_save_is_one_clear_error_and_loses_nothing(
    text: Path, uninterrupted, tmp_path: Path
) -> None:
    """The limit on the size of files stands for a full disk: a write fails amid a checkpoint."""
    pytest.importorskip("resource", reason="limits on files are Unix's")
    limited = """
training.EVALUATIONS = 40
import resource
save, count = training.Trainer.save, iter(range(10**9))
def full(run):
    if next(count) == 7:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    save(run)
training.Trainer.save = full
from liquidlm.errors import LiquidError
try:
    run()
except LiquidError as error:
    sys.exit(f"error: {error}")
"""
    out = tmp_path / "run"
    done = python(RUN + limited, text, out)
    assert done.returncode == 1
    assert (
        "cannot write" in done.stderr and "free some space" in done.stderr and "Traceback" not in done.stderr
    )
    assert not list((out / "checkpoints").glob(".*"))
    whole(text, out)
    assert equal(out, uninterrupted)
