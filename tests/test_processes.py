"""Several processes on one model, on the CPU: as one process, killed or not, whatever their number."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from liquidlm.folder import checkpoints
from liquidlm.report import read_curve

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="torch was built without gloo")
CONFIG = """
steps = 40
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


def start(count: int, *arguments: object) -> subprocess.Popen[str]:
    """`torchrun --nproc-per-node count -m liquidlm train …`, a process group of its own."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    command += ["-m", "liquidlm", "train", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen(command, env=environment, text=True, start_new_session=True, **pipes)


def run(count: int, *arguments: object) -> str:
    process = start(count, *arguments)
    said, _ = process.communicate(timeout=180)
    assert process.returncode == 0, said
    return said


def program(source: str, count: int, folder: Path, *arguments: object) -> list[dict[str, float]]:
    """What each of `count` processes of a program prints as JSON."""
    file = folder / "program.py"
    file.write_text(source)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    paths = os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    command += [str(file), *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(found) == count
    return found


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


@pytest.fixture(scope="module")
def one(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process."""
    out = tmp_path_factory.mktemp("one")
    run(1, text, "--out", out, "--config", text.with_name("run.toml"))
    return out


@pytest.fixture(scope="module")
def two(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of two."""
    out = tmp_path_factory.mktemp("two")
    said = run(2, text, "--out", out, "--config", text.with_name("run.toml"))
    assert "2 processes" in said and said.count("Model in") == 1
    return out


EXACTLY = """
import json, sys
from pathlib import Path
import torch
from helpers import randomise
from liquidlm.processes import Processes, processes, whole
from liquidlm.run import Run
from liquidlm.settings import TrainSettings
from liquidlm.training_text import prepare
import liquidlm.model

liquidlm.body.SEGMENT = 40  # a pass is several segments: each block is called more than once
torch.set_default_dtype(torch.float64)
sizes = {"hidden_size": 32, "num_hidden_layers": 4}
tied = sys.argv[2] == "tied"
sizes |= {"embedding_dim": 32 if tied else 16, "tie_word_embeddings": tied}
sizes["latent_dim"] = 16 if sys.argv[2] == "no reduction" else 8  # then there is an empty parameter
settings = TrainSettings(paths=[sys.argv[1]], steps=10, sizes=sizes, context=32, batch_size=6, bf16=False,
                         recompute=sys.argv[2] == "recompute")
texts, build = prepare(settings), liquidlm.run.build_model
liquidlm.run.build_model = lambda *given: randomise(build(*given))
with processes() as together:
    unused, one = Path("unused"), Processes(together.device)
    alone, shared = (Run(settings, texts, unused, of) for of in (one, together))
    errors = {"loss": 0.0, "gradient": 0.0, "state": 0.0, "gradients": 0}
    for _ in range(3):
        errors["loss"] = max(errors["loss"], abs(alone._backward(1)[0] - shared._backward(1)[0]))
        for mine, theirs in zip(shared.model.parameters(), alone.model.parameters(), strict=True):
            assert (mine.grad is None) == (theirs.grad is None)
            if mine.grad is not None and mine.numel():
                difference = (whole(mine.grad) - theirs.grad).abs().max() / theirs.grad.abs().max()
                errors["gradient"] = max(errors["gradient"], difference.item())
                errors["gradients"] += 1
        for name, value in shared.state.tensors().items():
            difference = (value - together.rows(alone.state.tensors()[name])).abs().max().item()
            errors["state"] = max(errors["state"], difference)
    print(f"\\n{json.dumps(errors)}", flush=True)
"""


@pytest.mark.parametrize("memory", ["keep", "recompute", "no reduction", "tied"])
def test_loss_gradients_and_states_are_those_of_one_process(text: Path, tmp_path: Path, memory: str) -> None:
    """In float64, over three batches and the states carried between them."""
    for errors in program(EXACTLY, 2, tmp_path, text, memory):
        print(errors)
        assert errors["gradients"] > 100
        assert max(errors["gradient"], errors["state"]) < 1e-12
        assert errors["loss"] < (4e-9 if memory == "tied" else 1e-9)  # the tied model's is larger


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


def kill_after(count: int, saves: int, out: Path, process: subprocess.Popen[str]) -> None:
    """SIGKILL torchrun and all its processes once there are newer checkpoints."""
    deadline = time.monotonic() + 120
    before = {folder.name for folder in checkpoints(out)}
    while len({folder.name for folder in checkpoints(out)} - before) < saves:
        assert process.poll() is None, process.stdout.read() if process.stdout else ""
        assert time.monotonic() < deadline
        time.sleep(0.01)
    launcher = psutil.Process(process.pid)
    for each in [launcher, *launcher.children(recursive=True)]:  # the processes have groups of their own
        each.kill()
    process.communicate()


def test_killed_twice_and_gone_on_in_other_numbers(text: Path, one: Path, two: Path, tmp_path: Path) -> None:
    kill_after(2, 2, tmp_path, start(2, text, "--out", tmp_path, "--config", text.with_name("run.toml")))
    kill_after(3, 2, tmp_path, start(3, "--resume", "--out", tmp_path))
    run(1, "--resume", "--out", tmp_path)
    for name, folder in (("final_bits_per_byte", one), ("final_bits_per_byte", two)):
        expected, found = (read_curve(f / "curve.jsonl")[-1][name] for f in (folder, tmp_path))
        assert abs(expected - found) < 3e-5


def test_stopped_and_gone_on_in_the_same_number_it_is_the_same_bit_for_bit(
    text: Path, two: Path, tmp_path: Path
) -> None:
    process = start(2, text, "--out", tmp_path, "--config", text.with_name("run.toml"))
    while not checkpoints(tmp_path):
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C does, to torchrun and its processes alike
    said, _ = process.communicate(timeout=60)
    assert "Go on with: liquidlm train --resume" in said
    assert not (tmp_path / "model.safetensors").exists()
    run(2, "--resume", "--out", tmp_path)
    expected, found = weights(two), weights(tmp_path)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--batch", "3"], "3 rows cannot be divided between 2 processes"),
        (["--context", "1000000"], "choose a shorter context"),
    ],
)
def test_a_mistake_is_said_once(text: Path, tmp_path: Path, given: list[str], said: str) -> None:
    process = start(2, text, "--out", tmp_path / "run", "--steps", 4, "--size", "tiny", *given)
    printed, _ = process.communicate(timeout=120)
    lines = [line for line in printed.splitlines() if "error: " in line]
    assert process.returncode != 0 and len(lines) == 1 and said in lines[0]
    assert "liquidlm/train.py" not in printed  # no traceback of ours


DIES = """
import os, signal, sys
from pathlib import Path
from liquidlm import train as training
from liquidlm.settings import TrainSettings, read_config
text, out = Path(sys.argv[1]), Path(sys.argv[2])
step = training.Run.train_step
def dies(run):
    if run.step == 25 and os.environ["RANK"] == "1" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        (out / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return step(run)
training.Run.train_step = dies
training.train(TrainSettings(paths=[str(text)], **read_config(text.with_name("run.toml"))), out)
"""


def test_torchrun_restarts_a_run_that_dies(text: Path, two: Path, tmp_path: Path) -> None:
    """A process dies once, amid the run; torchrun starts all anew, and they go on: the same, bit for bit."""
    program = tmp_path / "dies.py"
    program.write_text(DIES)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["--max-restarts", "1", str(program), str(text), str(tmp_path / "run")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "died").exists()
    expected, found = weights(two), weights(tmp_path / "run")
    assert all(torch.equal(expected[name], found[name]) for name in expected)


# ---- one text over several processes

IN_PARTS = """
import json, sys
import torch, torch.distributed as dist
from helpers import randomise
import liquidlm.model
from liquidlm.config import LiquidConfig
from liquidlm.errors import LiquidError
from liquidlm.model import LiquidTextGenerationModel
from liquidlm.sequence_parallel import sequence_parallel

liquidlm.body.SEGMENT = int(sys.argv[1])  # tokens that go through the blocks together
dist.init_process_group("gloo")
rank, count = dist.get_rank(), dist.get_world_size()
torch.manual_seed(0)
sizes = {"vocab_size": 64, "latent_dim": 8, "hidden_size": 16, "num_hidden_layers": 4}
tied = sys.argv[1] == "20"
sizes |= {"embedding_dim": 16 if tied else 12, "tie_word_embeddings": tied}
small = {"flow_hidden_dim": 8, "num_flows": 2, "num_heads": 2, "chunk_size": 8, "dropout_rate": 0.0}
small["time_components"] = 3
model = randomise(LiquidTextGenerationModel(LiquidConfig(**sizes, **small))).double()
ids = torch.randint(3, 64, (2, 101))
times = (torch.rand(2, 101, dtype=torch.float64) * 3).cumsum(1)
times[:, 40] = times[:, 39]
starts = torch.zeros(2, 101, dtype=torch.bool)
starts[1, 60] = True
worst = {}
for training in (True, False, "frozen"):
    model.train(bool(training))
    model.embedding.requires_grad_(training != "frozen")
    for name, given in (("times", {"timestamps": times, "starts": starts}), ("plain", {})):
        model.zero_grad()
        whole = model(ids, labels=ids, use_cache=True, **given)
        whole.loss.backward()
        trained = [parameter for parameter in model.parameters() if parameter.grad is not None]
        expected = [parameter.grad.clone() for parameter in trained]
        model.zero_grad()
        part = sequence_parallel(model, ids, labels=ids, **given)
        part.loss.backward()
        loss = part.loss.detach().clone()
        dist.all_reduce(loss)
        errors = [(loss / count - whole.loss).abs()]
        for parameter, grad in zip(trained, expected, strict=True):
            dist.all_reduce(parameter.grad)
            errors.append((parameter.grad / count - grad).abs().max() / grad.abs().max().clamp(min=1e-12))
        if rank == count - 1:
            ends = zip(part.state.tensors().values(), whole.state.tensors().values(), strict=True)
            errors += [(a - b).abs().max() for a, b in ends]
        if not training:
            mine = slice(101 * rank // count, 101 * (rank + 1) // count)
            errors.append((part.logits - whole.logits[:, mine]).abs().max())
        worst[f"{name} {training}"] = torch.stack(errors).max().item()
back = times.clone()
back[0, 100] = 0.0  # in the last process's part
for given in ({"input_ids": ids, "timestamps": back}, {"input_ids": ids + 1000}):
    try:
        sequence_parallel(model, **given)
    except LiquidError:
        continue
    raise SystemExit("a mistake went unseen")
print(f"\\n{json.dumps(worst)}", flush=True)
dist.destroy_process_group()
"""


@pytest.mark.parametrize(("count", "segment"), [(2, 4096), (3, 20)])
def test_one_text_over_several_processes_is_as_over_one(count: int, segment: int, tmp_path: Path) -> None:
    """Loss, logits, the state at the end, and every gradient, in float64."""
    found = program(IN_PARTS, count, tmp_path, segment)
    print(found)
    assert all(len(worst) == 6 and max(worst.values()) < 1e-10 for worst in found)
