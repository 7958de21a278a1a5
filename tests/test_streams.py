"""Standard streams that are closed, full, gone or of another encoding: no traceback, and nothing lost."""

import errno
import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from liquidlm.cli import main as cli
from liquidlm.runtime import startup
from liquidlm.runtime.streams import standard_streams


class Raw(io.RawIOBase):
    """Where bytes go, or fail."""

    def __init__(self, fails: int | None = None):
        self.fails, self.got = fails, b""

    def writable(self) -> bool:
        return True

    def write(self, data) -> int:
        if self.fails is not None:
            raise OSError(self.fails, os.strerror(self.fails))
        self.got += bytes(data)
        return len(data)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, as_users_run):
    """Run a command with these streams: exit code, and what came to each."""

    def run(*words: object, stdin=None, out: Raw | None = None, err: Raw | None = None, encoding="utf-8"):
        raws = [out or Raw(), err or Raw()]
        streams = [io.TextIOWrapper(io.BufferedWriter(raw), encoding) for raw in raws]
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["liquidlm", *map(str, words)])
            patch.setattr(sys, "stdin", stdin)
            patch.setattr(sys, "stdout", streams[0])
            patch.setattr(sys, "stderr", streams[1])
            with pytest.raises(SystemExit) as end:
                cli.main()
        for raw, stream in zip(raws, streams, strict=True):
            raw.fails = None
            stream.flush()
        return end.value.code, raws[0].got.decode(encoding), raws[1].got.decode(encoding)

    return run


SHORT = ("--max-new-tokens", 3, "--seed", 1)


def test_closed_standard_input_is_no_input(command) -> None:
    code, out, err = command("generate", "stories", *SHORT)
    assert (code, err) == (0, "") and out.strip()


@pytest.mark.parametrize("words", [("generate", "stories", "x", *SHORT), ("--help",)])
def test_a_full_standard_output_is_one_line(command, words: tuple) -> None:
    code, _, err = command(*words, out=Raw(errno.ENOSPC))
    assert (code, err) == (2, "error: cannot write standard output: No space left on device\n")


def test_a_reader_that_is_gone_needs_no_words(command, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("Once")
    code, _, err = command("eval", "stories", tmp_path / "text.txt", out=Raw(errno.EPIPE))
    assert (code, err) == (141, "")


def test_messages_that_cannot_be_written_lose_nothing(command) -> None:
    code, out, _ = command("generate", "stories", "Once", "-v", *SHORT, err=Raw(errno.ENOSPC))
    assert code == 0 and out.startswith("Once")


def test_what_cannot_be_encoded_is_replaced(command) -> None:
    code, out, err = command("generate", "stories", "👨 año", *SHORT, encoding="ascii")
    assert (code, err) == (0, "") and out.startswith("? a?o")
    code, _, err = command("eval", "stories", "caf\udcff.txt")
    assert code == 2 and err.startswith("error: caf\ufffd.txt: no such file")


def test_closed_streams_are_opened_and_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    with standard_streams():
        assert sys.stdin is not None and sys.stdout is not None and sys.stderr is not None
    assert sys.stdin is sys.stdout is sys.stderr is None


def test_what_is_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    for words, of_python, found in (
        (["/usr/bin/liquidlm", "eval"], ["python", "/usr/bin/liquidlm"], True),
        (["-m", "eval"], ["python", "-u", "-m", "liquidlm"], True),
        (["-m"], ["python", "-m", "pytest"], False),
        (["train.py"], ["python", "train.py"], False),
        ([""], ["python"], False),
    ):
        monkeypatch.setattr(sys, "argv", words)
        monkeypatch.setattr(sys, "orig_argv", of_python)
        assert startup.is_command() is found


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is another thing there")
@pytest.mark.parametrize(
    ("command", "module"),
    [(["eval", "stories", "-"], "liquidlm.runtime.startup"), (["train"], "torch.nn.functional")],
    ids=["eval", "train"],
)
def test_ctrl_c_while_it_starts_is_quiet(command: list[str], module: str, tmp_path: Path) -> None:
    """Sent while the package is imported; Python prints each module when it is loaded."""
    words = [sys.executable, "-X", "importtime", "-m", "liquidlm", *command]
    if command == ["train"]:
        words += ["--out", str(tmp_path / "run")]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    with subprocess.Popen(
        words,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as child:
        assert child.stderr is not None
        next(line for line in child.stderr if module in line)
        child.send_signal(signal.SIGINT)
        said = child.stderr.read()
        assert child.wait(60) == 130
    assert all(line.startswith("import time:") for line in said.splitlines())


def test_nothing_of_the_package_is_imported_before_ctrl_c_is_quiet() -> None:
    program = "import sys, liquidlm; print(*sys.modules)"  # in the order in which their imports ended
    words = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    names = words.stdout.split()
    assert [name for name in names if name.startswith("liquidlm")][:2] == [
        "liquidlm.runtime",
        "liquidlm.runtime.startup",
    ]
    assert names.index("liquidlm.runtime.startup") < names.index("importlib.abc")


INTERRUPT = "__import__('signal').raise_signal(2)"


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is another thing there")
@pytest.mark.parametrize(
    "place",
    [
        f"train.import_models = lambda: exec({INTERRUPT!r})",  # as where a dataclass is made
        f"train.check_device_name = lambda name: {INTERRUPT}",
        f"main.app = lambda: {INTERRUPT}",  # before and after typer catches it
    ],
    ids=["dataclass", "command", "app"],
)
def test_ctrl_c_at_the_end_of_the_imports_is_quiet(place: str, tmp_path: Path) -> None:
    program = f"import sys\nfrom liquidlm.cli import main\ntrain = sys.modules['liquidlm.cli.train']\n{place}"
    (tmp_path / "interrupted.py").write_text(f"{program}\nmain.main()")
    ended = subprocess.run(  # as python -m liquidlm: a script ends otherwise
        [sys.executable, "-m", "interrupted", "train", "--out", "run", "--device", "cpu"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "")
