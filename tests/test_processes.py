"""Several processes on one model, on the CPU: as one process, killed or not, whatever their number."""

import json
import os
import runpy
import signal
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.distributed import run

import liquidlm.model.segments
import liquidlm.training.trainer
from liquidlm.cli import main as cli
from liquidlm.inference.checkpoints import checkpoints
from liquidlm.training.loop import resume, train  # noqa: F401 - for the programs
from liquidlm.training.processes import Processes, full_tensor, processes
from liquidlm.training.progress import read_curve
from liquidlm.training.settings import TrainSettings, read_config
from liquidlm.training.text import prepare
from liquidlm.training.trainer import Trainer
from tests import warm
from tests.forked import fork  # noqa: F401 - for the programs
from tests.helpers import randomise

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="torch was built without gloo")
CONFIG = """
steps = 24
lr = 0.002  # Muon iterates in bfloat16: at high rates a last bit soon grows
size = "tiny"
context = 32
batch_size = 6
accumulate = 2
bf16 = false
[sizes]
hidden_size = 32
num_hidden_layers = 2
embedding_dim = 32
latent_dim = 8
tie_word_embeddings = true
"""


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("text") / "numbers.txt"
    file.write_text(" ".join(str(i * i % 977) for i in range(4000)))
    file.with_name("run.toml").write_text(CONFIG)
    return file


FUNCTIONS = "from tests.test_processes import *\n"


def python(source: str) -> str:
    """What a program of this file's functions prints."""
    done = warm.run(program=FUNCTIONS + source)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def configured(text: str, config: str, out: str) -> None:
    train(TrainSettings(paths=[text], **read_config(Path(config))), out)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


@pytest.fixture(scope="module")
def one(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process."""
    out = tmp_path_factory.mktemp("one")
    python(f"configured({str(text)!r}, {str(text.with_name('run.toml'))!r}, {str(out)!r})")
    return out


@pytest.fixture(scope="module")
def two(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of two."""
    out = tmp_path_factory.mktemp("two")
    given = f"{str(text)!r}, {str(text.with_name('run.toml'))!r}, {str(out)!r}"
    said = python(f"assert fork(2, lambda: configured({given})) == [0, 0]")
    assert "2 processes" in said and said.count("Model in") == 1, said
    return out


KINDS = ("keep", "recompute", "no reduction", "tied")


def exactly(text: str, kind: str) -> None:
    """In float64: prints how far the loss, gradients and states of several processes are from one's, over
    two batches and the states carried between them."""
    liquidlm.model.segments.SEGMENT = 40  # a pass is several segments: each block is called more than once
    torch.set_default_dtype(torch.float64)
    sizes = {"hidden_size": 32, "num_hidden_layers": 4}
    tied = kind == "tied"
    sizes |= {"embedding_dim": 32 if tied else 16, "tie_word_embeddings": tied}
    sizes["latent_dim"] = 16 if kind == "no reduction" else 8  # then there is an empty parameter
    given = {"paths": [text], "steps": 10, "sizes": sizes, "context": 32, "batch_size": 6, "bf16": False}
    settings = TrainSettings(**given, recompute=kind == "recompute")
    texts, build = prepare(settings), liquidlm.training.trainer.build_model
    liquidlm.training.trainer.build_model = lambda *given: randomise(build(*given))
    with processes() as together:
        unused, one = Path("unused"), Processes(together.device)
        alone, shared = (Trainer(settings, texts, unused, of) for of in (one, together))
        errors = {"loss": 0.0, "gradient": 0.0, "state": 0.0, "gradients": 0}
        for _ in range(2):
            errors["loss"] = max(errors["loss"], abs(alone._backward(1)[0] - shared._backward(1)[0]))
            for mine, theirs in zip(shared.model.parameters(), alone.model.parameters(), strict=True):
                assert (mine.grad is None) == (theirs.grad is None)
                if mine.grad is not None and mine.numel():
                    difference = (full_tensor(mine.grad) - theirs.grad).abs().max() / theirs.grad.abs().max()
                    errors["gradient"] = max(errors["gradient"], difference.item())
                    errors["gradients"] += 1
            for name, value in shared.state.tensors().items():
                difference = (value - together.rows(alone.state.tensors()[name])).abs().max().item()
                errors["state"] = max(errors["state"], difference)
        print(f"\n{json.dumps([kind, errors])}", flush=True)


@pytest.fixture(scope="module")
def differences(text: Path) -> list[tuple[str, dict[str, float]]]:
    """What `exactly` finds in each of two processes, for all kinds."""
    said = python(f"for kind in KINDS: fork(2, lambda: exactly({str(text)!r}, kind))")
    return [json.loads(line) for line in said.splitlines() if line.startswith("[")]


@pytest.mark.parametrize("kind", KINDS)
def test_loss_gradients_and_states_are_those_of_one_process(differences, kind: str) -> None:
    found = [errors for of, errors in differences if of == kind]
    assert len(found) == 2
    for errors in found:
        print(errors)
        assert errors["gradients"] > 100
        assert max(errors["gradient"], errors["state"]) < 1e-12
        assert errors["loss"] < (4e-9 if kind == "tied" else 1e-9)  # the tied model's is larger


def test_two_processes_train_as_one(one: Path, two: Path) -> None:
    alone, together = (read_curve(folder / "curve.jsonl") for folder in (one, two))
    assert [entry["step"] for entry in alone] == [entry["step"] for entry in together]
    tried = [entry["valid_bits_per_byte"] for entry in alone if "valid_bits_per_byte" in entry]
    assert len(tried) == 10 and tried[-1] < tried[0] - 0.1
    for name, limit in (("loss", 1e-5), ("valid_bits_per_byte", 3e-5), ("final_bits_per_byte", 3e-5)):
        differences = [abs(a[name] - b[name]) for a, b in zip(alone, together, strict=True) if name in a]
        print(name, max(differences))
        assert max(differences) < limit
    expected, found = weights(one), weights(two)
    assert expected.keys() == found.keys()
    assert max((expected[name] - found[name]).abs().max().item() for name in expected) < 1e-3


def kill_after(saves: int, out: Path, work: str) -> None:
    """SIGKILL to all processes of a program once there are newer checkpoints."""
    reader, writer = os.pipe()
    with open(os.devnull) as nothing:
        process = warm.start((), nothing.fileno(), writer, writer, program=FUNCTIONS + work, session=True)
    os.close(writer)
    deadline = time.monotonic() + 120
    before = {folder.name for folder in checkpoints(out)}
    while len({folder.name for folder in checkpoints(out)} - before) < saves:
        assert process.poll() is None, os.read(reader, 100_000).decode()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    with open(reader) as said:
        said.read()  # to its end: all of them are dead
    process.wait()


def test_killed_twice_and_gone_on_in_other_numbers(text: Path, one: Path, two: Path, tmp_path: Path) -> None:
    given = f"{str(text)!r}, {str(text.with_name('run.toml'))!r}, {str(tmp_path)!r}"
    kill_after(2, tmp_path, f"fork(2, lambda: configured({given}))")
    kill_after(2, tmp_path, f"fork(3, lambda: resume({str(tmp_path)!r}))")
    python(f"resume({str(tmp_path)!r})")
    for name, folder in (("final_bits_per_byte", one), ("final_bits_per_byte", two)):
        expected, found = (read_curve(f / "curve.jsonl")[-1][name] for f in (folder, tmp_path))
        assert abs(expected - found) < 3e-5


MISTAKES = {
    "3 rows cannot be divided between 2 processes": ["--batch", "3"],
    "choose a shorter context": ["--context", "1000000"],
}


def mistaken(*arguments: str) -> None:
    sys.argv = ["liquidlm", "train", *arguments, "--steps", "4", "--size", "tiny"]
    cli.main()


def test_a_mistake_is_said_once(text: Path, tmp_path: Path) -> None:
    common = [str(text), "--out", str(tmp_path / "run")]
    printed = python(
        f"for given in MISTAKES.values(): print(fork(2, lambda: mistaken(*{common}, *given)), flush=True)"
    )
    lines = [line for line in printed.splitlines() if "error: " in line]
    assert all(said in line for said, line in zip(MISTAKES, lines, strict=True)), printed
    assert printed.count("[2, 2]\n") == 2
    assert "liquidlm/training/loop.py" not in printed  # no traceback of ours


DIES = """
import os, signal, sys
from pathlib import Path
from liquidlm.cli import main as cli
from liquidlm.training import loop as training
out = Path(sys.argv[sys.argv.index("--out") + 1])
step = training.Trainer.train_step
def dies(run):
    first = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
    if run.step == 9 and os.environ["RANK"] == "1" and first:
        (out / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if run.step == 18 and not first:
        (out / "waits").touch()
        signal.pause()  # for Ctrl-C
    return step(run)
training.Trainer.train_step = dies
cli.main()
"""


def torchrun(words: list[str]) -> None:
    """Be `torchrun` with these words. Its processes are forks of this one, which has imported the package."""
    configured = run.config_from_args
    run.config_from_args = lambda given: (configured(given)[0], script, configured(given)[2])
    run.main(["--start-method", "fork", *words])


def script(_unbuffered: str, file: str, *words: str) -> None:
    """Be Python with this script, and with the signals of a process that begins."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    sys.argv = [file, *words]
    runpy.run_path(file, run_name="__main__")


def test_torchrun_restarts_a_run_that_dies_and_ctrl_c_stops_it(text: Path, two: Path, tmp_path: Path) -> None:
    """A process dies once, amid the run; torchrun starts all again, and they go on until Ctrl-C. Gone on
    in the same number of processes, it is the same, bit for bit."""
    program, out, messages = tmp_path / "dies.py", tmp_path / "run", tmp_path / "messages.txt"
    program.write_text(DIES)
    words = ["--standalone", "--nproc-per-node", 2, "--max-restarts", 1, program, "train", text]
    words += ["--out", out, "--config", text.with_name("run.toml")]
    source = FUNCTIONS + "torchrun(sys.argv[1:])"
    with messages.open("w") as said, open(os.devnull) as nothing:
        streams = (nothing.fileno(), said.fileno(), said.fileno())
        process = warm.start(words, *streams, program=source, session=True)
    try:
        while not (out / "waits").exists():
            assert process.poll() is None, messages.read_text()
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C does, to torchrun and its processes alike
        process.wait(60)
    finally:
        process.kill()
    assert (out / "died").exists()
    assert "Continue with: liquidlm train --resume" in messages.read_text()
    assert not (out / "model.safetensors").exists()
    assert json.loads((checkpoints(out)[0] / "run.json").read_text())["step"] > 9
    python(f"assert fork(2, lambda: resume({str(out)!r})) == [0, 0]")
    expected, found = weights(two), weights(out)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_rows_are_shared_out_in_their_order() -> None:
    parts = [Processes(torch.device("cpu"), rank, 3).rows(torch.arange(6)).tolist() for rank in range(3)]
    assert parts == [[0, 1], [2, 3], [4, 5]]
