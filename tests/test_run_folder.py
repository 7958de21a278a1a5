"""The folder of a run: one training at a time, nobody else's files lost, saved whatever ends it."""

import errno
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from training import settings, weights

from liquidlm.errors import LiquidError
from liquidlm.inference.checkpoints import checkpoints
from liquidlm.training.loop import resume, train
from liquidlm.training.optim import Optimisers
from liquidlm.training.progress import Report
from liquidlm.training.run_folder import LOCK, run_folder
from liquidlm.training.trainer import Trainer

HOLD = "import sys\nfrom filelock import FileLock\n"
HOLD += "with FileLock(sys.argv[1]):\n    print('held', flush=True)\n    sys.stdin.read()\n"


def contents(folder: Path) -> dict[str, bytes]:
    """What every file has in it."""
    return {str(file): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_folder_that_another_process_trains_in_is_refused_until_that_is_dead(
    text: Path, copied: Path
) -> None:
    command = [sys.executable, "-c", HOLD, str(copied / LOCK)]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout is not None and other.stdin is not None
    try:
        assert other.stdout.readline() == b"held\n"
        before = contents(copied)
        for start in (lambda: train(settings(text), copied), lambda: resume(copied)):
            with pytest.raises(LiquidError, match="another training writes to"):
                start()
        assert contents(copied) == before
    finally:
        other.kill()
        other.wait()
        other.stdin.close()
        other.stdout.close()
    assert (copied / LOCK).exists()
    with run_folder(copied):
        with pytest.raises(LiquidError, match=rf"another training .*process {os.getpid()} on .*since 20"):
            resume(copied)
        assert (copied / LOCK).exists()
    assert not (copied / LOCK).exists()


def test_what_a_refused_run_has_made_goes_again(text: Path, tmp_path: Path) -> None:
    with pytest.raises(LiquidError, match="no such file"):
        train(settings(tmp_path / "none.txt"), tmp_path / "some" / "new" / "run")
    with pytest.raises(LiquidError, match="there is no checkpoint"):
        resume(tmp_path / "some" / "run")
    assert not os.listdir(tmp_path)
    (tmp_path / "mine").mkdir()
    with pytest.raises(LiquidError, match="no such file"):
        train(settings(tmp_path / "none.txt"), tmp_path / "mine")
    assert not os.listdir(tmp_path / "mine")


@pytest.mark.parametrize("name", ["config.json", "curve.jsonl", "tokenizer.json", "x.safetensors"])
def test_a_folder_with_files_of_others_that_would_be_overwritten_is_refused(
    text: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_text("the user's")
    with pytest.raises(LiquidError, match=f"already holds {name}.*choose another --out"):
        train(settings(text), tmp_path)
    assert os.listdir(tmp_path) == [name] and (tmp_path / name).read_text() == "the user's"


def test_text_may_lie_beside_a_run_and_what_a_killed_one_has_left_is_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("the user's")
    with run_folder(tmp_path):  # ends without a checkpoint
        (tmp_path / "curve.jsonl").write_text("half")
    with run_folder(tmp_path):
        pass
    assert sorted(os.listdir(tmp_path)) == [LOCK, "curve.jsonl", "notes.txt"]


def test_the_text_of_a_run_is_not_overwritten_by_one_that_is_refused(
    text: Path, copied: Path, monkeypatch
) -> None:
    (copied / "standard-input.txt").write_text("of the run that is there")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"other text")))
    with pytest.raises(LiquidError, match="already holds a run"):
        train(settings(text, paths=["-"]), copied)
    assert (copied / "standard-input.txt").read_text() == "of the run that is there"


LITTLE_MEMORY = RuntimeError("DefaultCPUAllocator: can't allocate memory")
FAULTS = {
    "memory": ((Trainer, "_backward", 8), LITTLE_MEMORY, LiquidError, "not enough memory.*--batch"),
    "disk": ((Report, "progress", 7), OSError(errno.ENOSPC, "No space left"), OSError, "No space"),
    "a fault of ours": ((Trainer, "_backward", 8), KeyError("gone"), KeyError, "gone"),
}


@pytest.mark.parametrize(("place", "error", "raised", "said"), FAULTS.values(), ids=FAULTS)
def test_a_run_that_an_error_ends_is_saved_and_goes_on_bit_for_bit(
    text: Path, tmp_path: Path, finished: Path, monkeypatch, capsys, place, error, raised, said: str
) -> None:
    owner, name, at = place
    real, calls = getattr(owner, name), iter(range(1, 1000))

    def fails(self, *arguments):
        result = real(self, *arguments)
        if next(calls) == at:
            raise error
        return result

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, fails)
        with pytest.raises(raised, match=said):
            train(settings(text), tmp_path / "run")
    printed = "".join(capsys.readouterr().err.split("\n"))
    assert "Step 7 is saved. Continue with: liquidlm train --resume --out" in printed
    assert checkpoints(tmp_path / "run")[0].name == "step-00000007"
    resume(tmp_path / "run")
    found, expected = weights(tmp_path / "run"), weights(finished)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_weights_of_half_a_step_are_not_saved(text: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    step, calls = Optimisers.step, iter(range(1, 100))

    def fails(self, *arguments):
        step(self, *arguments)
        if next(calls) == 8:
            raise MemoryError

    monkeypatch.setattr(Optimisers, "step", fails)
    with pytest.raises(LiquidError, match="not enough memory"):
        train(settings(text), tmp_path / "run")
    newest = checkpoints(tmp_path / "run")[0]
    assert json.loads((newest / "run.json").read_text())["step"] < 8
    assert f"Step {int(newest.name[5:])} is saved" in capsys.readouterr().err
