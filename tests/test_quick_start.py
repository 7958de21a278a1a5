"""The command line answers before torch is imported."""

import subprocess
import sys

import pytest

PROGRAM = """
import runpy, sys
sys.argv = ["liquidlm", *sys.argv[1:]]
try:
    runpy.run_module("liquidlm", run_name="__main__")
finally:
    heavy = {"torch", "transformers", "tokenizers", "numpy", "matplotlib"} & set(sys.modules)
    print("imported:", sorted(heavy), file=sys.stderr)
"""


def python(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *words], capture_output=True, text=True, timeout=120, check=False
    )


COMMANDS = ("train", "generate", "eval", "inspect", "watch", "serve", "export", "bench")


@pytest.mark.parametrize("words", [["--help"], *([name, "--help"] for name in COMMANDS)], ids=" ".join)
def test_help_imports_nothing_that_takes_long(words: list[str]) -> None:
    done = python(*words)
    assert done.returncode == 0 and "Usage" in done.stdout
    assert done.stderr == "imported: []\n"


def test_a_command_that_runs_imports_what_it_needs() -> None:
    assert "'torch'" in python("bench").stderr
