"""The command line answers before torch is imported."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import liquidlm

PROGRAM = """
import sys
sys.argv[0] = "liquidlm"
from liquidlm.cli.main import main
try:
    main()
finally:
    heavy = {"torch", "transformers", "tokenizers", "numpy", "matplotlib"} & set(sys.modules)
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


COMMANDS = ("train", "generate", "eval", "info", "inspect", "watch", "serve", "export", "bench")


@pytest.mark.parametrize("words", [["--help"], *([name, "--help"] for name in COMMANDS)], ids=" ".join)
def test_help_imports_nothing_that_takes_long(words: list[str]) -> None:
    done = python(*words)
    assert done.returncode == 0 and "Usage" in done.stdout
    assert done.stderr == "imported: []\n"


def test_a_command_that_runs_imports_what_it_needs() -> None:
    assert "'torch'" in python("bench").stderr


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
