"""The command line answers before torch is imported."""

import inspect
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.main import get_command

import liquidlm
from liquidlm.cli.main import app

PROGRAM = """
import sys
sys.argv[0] = "liquidlm"
from liquidlm.cli.main import main
try:
    main()
finally:
    heavy = {"torch", "transformers", "tokenizers", "numpy", "matplotlib", "rich"} & set(sys.modules)
    print("imported:", sorted(heavy), file=sys.stderr)
"""


def python(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *words],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


COMMANDS = (
    "train",
    "generate",
    "eval",
    "info",
    "inspect",
    "watch",
    "serve",
    "times",
    "export",
    "pack",
    "bench",
)


@pytest.mark.parametrize("words", [["--help"], *([name, "--help"] for name in COMMANDS)], ids=" ".join)
def test_help_imports_nothing_that_takes_long(words: list[str]) -> None:
    done = python(*words)
    assert done.returncode == 0 and "Usage" in done.stdout
    assert not re.search(r"^  .*[^]}]\.\.\.$", done.stdout, re.MULTILINE), (
        "the summary of a command is cut off"
    )
    assert done.stderr == "imported: []\n"


def test_the_examples_in_a_help_text_are_whole_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain help texts are wrapped, and an example that is wrapped cannot be copied."""
    monkeypatch.setenv("COLUMNS", "80")
    group = get_command(app)
    context = typer.Context(group, info_name="liquidlm")
    commands: dict[str, Any] = group.commands  # pyright: ignore[reportAttributeAccessIssue]
    found = 0
    for name, command in {"liquidlm": group, **commands}.items():
        text = command.get_help(typer.Context(command, info_name=name, parent=context))
        examples = re.findall(r"^    +(\S.*)$", inspect.cleandoc(command.help), re.MULTILINE)
        assert all(f"\n      {example}\n" in text for example in examples), text
        found += len(examples)
    assert found > 15


def test_a_command_that_runs_imports_what_it_needs() -> None:
    assert "'torch'" in python("info").stderr


def test_version() -> None:
    done = python("--version")
    assert done.stdout == f"liquidlm {liquidlm.__version__}\n"
    assert done.stderr == "imported: []\n"


@pytest.mark.parametrize(
    ("line", "expected"), [("liquidlm ge", ["generate"]), ("liquidlm generate --top", ["--top-k", "--top-p"])]
)
def test_the_shell_completes_commands_and_options(line: str, expected: list[str]) -> None:
    count = str(len(line.split()) - 1)
    done = python(_LIQUIDLM_COMPLETE="complete_bash", COMP_WORDS=line, COMP_CWORD=count)
    assert done.stdout.split() == expected
    assert done.stderr == "imported: []\n"


def test_completion_is_installed_into_the_home_folder(tmp_path: Path) -> None:
    variables = {"HOME": str(tmp_path), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    assert "_LIQUIDLM_COMPLETE=complete_bash" in python("--show-completion", "bash", **variables).stdout
    assert python("--install-completion", "bash", **variables).returncode == 0
    assert "_LIQUIDLM_COMPLETE" in (tmp_path / ".bash_completions/liquidlm.sh").read_text()


MISTAKES = (
    ("train --out r --steps 0", "--steps must be greater than 0"),
    ("train --out r --size huge", "unknown size 'huge'"),
    ("train --out r --hidden-size 0", "hidden_size must be at least 1"),
    ("train --out r --latent-dim 999", "latent_dim (999) must be at most embedding_dim"),
    ("train --out r --device gpu", "unknown device 'gpu'"),
    ("train --out r --tokenizer bpe4000", "did you mean bpe:4000"),
    ("train --out r --late sort", "--late needs --timestamps"),
    ("train --out r --timestamps", "needs text that has times"),
    ("train --out r --timestamps --time-zone Mars/One notes.log", "Mars/One"),
    ("train --out r --from nowhere", "nowhere is not a folder"),
    ("train --out r --from stories --size tiny", "leave --size out"),
    ("train --out r --config sizes.toml", "sizes.toml: sizes.hiden_size is not a setting (did you mean"),
    ("train --out r --config mixers.toml", "mixer_types needs time or memory or nonlinear for each of the 5"),
    ("train --out r --config heads.toml", "num_heads (7) must divide hidden_size (256)"),
    ("train --out r --config solver.toml", "unknown ODE method 'euler2': choose one of euler, midpoint"),
    (
        "train --out r --config missing.toml",
        "missing.toml cannot be read as settings: No such file or directory",
    ),
    ("train --out r missing.txt", "missing.txt: no such file"),
    ("train --out r --valid missing.txt", "missing.txt: no such file"),
    ("train --out notes.log/r", "cannot write notes.log/r"),
    ("train --out others notes.log", "others already holds config.json"),
    ("train --out run notes.log", "run already holds a run"),
    ("train --out r --resume", "there is no checkpoint in r"),
    ("train --out run --resume --steps 0", "--steps must be greater than 0"),
    ("train --out run --resume --steps 1 --minutes 1", "either steps or minutes"),
    ("train --dry-run -", "would use up standard input"),
    ("generate nowhere/x hello", "nowhere/x is not a folder"),
    ("generate --top-p 0 hello", "--top-p must be"),
    ("generate --samples 0 hello", "--samples must be at least 1"),
    ("generate --file missing.txt", "missing.txt: no such file"),
    ("generate --load-state missing.state hello", "missing.state is not a readable liquid state"),
    ("generate --load-state notes.log hello", "notes.log is not a readable liquid state (damaged"),
    ("generate --save-state no/where.state hello", "cannot write no/where.state"),
    ("generate --timestamps hello", "trained without times"),
    ("generate --after 3 hello", "--after needs --timestamps"),
    ("eval nowhere notes.log", "nowhere is not a folder"),
    ("eval stories missing.txt", "missing.txt: no such file"),
    ("eval stories notes.log --adapt --rate 0", "the learning rate must be"),
    ("eval stories notes.log --timestamps", "trained without times"),
    ("inspect stories notes.log", "trained without times"),
    ("inspect nowhere notes.log --out page.pdf", "must end in .html"),
    ("watch", "name a model"),
    ("watch stories --alarms 0", "--alarms must be greater than 0"),
    ("watch stories --baseline missing.log", "cannot read the baseline missing.log"),
    ("watch --learn --learn-budget 1.5", "the learning budget must be"),
    ("watch stories --state no/where.state", "cannot write no/where.state"),
    ("watch stories --state notes.log", "notes.log is not a readable liquid state and would be overwritten"),
    ("watch stories --late sort", "needs a whole file"),
    ("serve nowhere", "nowhere is not a folder"),
    ("serve --rows 0", "--rows must be greater than 0"),
    ("serve --port BUSY", "port BUSY: Address already in use; choose another --port"),
    ("serve --cors example.org", "--cors example.org: give an origin"),
    ("serve --access-log no/access.log", "cannot write no/access.log"),
    ("info nowhere", "nowhere is not a folder"),
    ("export nowhere --out r", "nowhere is not a folder"),
    ("export stories --out notes.log", "notes.log exists already"),
    ("bench nonsense", "unknown benchmark"),
)

SIZES_FILES = {
    "sizes.toml": "hiden_size = 8",
    "mixers.toml": 'mixer_types = ["time", "gru", "time", "time", "time"]',
    "heads.toml": "num_heads = 7",
    "solver.toml": 'ode_method = "euler2"',
}

EACH = """
import contextlib, io, json, shlex, sys
from liquidlm.cli.main import main
found = []
for line in json.loads(sys.argv[1]):
    sys.argv = ["liquidlm", *shlex.split(line)]
    with contextlib.redirect_stderr(io.StringIO()) as said:
        try:
            main()
        except SystemExit as end:
            heavy = [name for name in ("torch", "transformers", "tokenizers") if name in sys.modules]
            found.append([end.code, said.getvalue(), heavy])
print(json.dumps(found))
"""
"""Each command in one process: what one of them imports stays imported, so the first that does is found."""


def test_a_mistake_is_named_before_anything_that_takes_long_is_imported(tmp_path: Path) -> None:
    (tmp_path / "notes.log").write_text("2026-01-31 12:00:00 one\n2026-01-31 12:00:01 two\n")
    for name, line in SIZES_FILES.items():
        (tmp_path / name).write_text(f"[sizes]\n{line}\n")
    (tmp_path / "run/checkpoints/step-00000001").mkdir(parents=True)
    (tmp_path / "others").mkdir()
    (tmp_path / "others/config.json").write_text("{}")
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = str(busy.getsockname()[1])
        mistakes = [(line.replace("BUSY", port), said.replace("BUSY", port)) for line, said in MISTAKES]
        done = subprocess.run(
            [sys.executable, "-c", EACH, json.dumps([line for line, _ in mistakes])],
            env={**os.environ, "PYTHONPATH": str(Path(liquidlm.__file__).parents[1])},
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
    for (line, said), (code, message, heavy) in zip(mistakes, json.loads(done.stdout), strict=True):
        assert code == 2 and said in message and not heavy, (line, message, heavy)
        assert message.count("\n") == message.count("model: stories") + 1, message
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["notes.log", "others", "run", *SIZES_FILES]
    )


def test_a_gpu_that_is_not_there_is_named_before_transformers_is_imported(tmp_path: Path) -> None:
    done = python("train", "--out", str(tmp_path / "r"), "--device", "cuda:99")
    assert done.returncode == 2 and "device cuda:99 is not available" in done.stderr
    assert "'torch'" in done.stderr and "'transformers'" not in done.stderr
