"""Where `liquidlm generate` takes its prompt from: argument, file, pipe, or two of them."""

import os
import subprocess
from pathlib import Path

import pytest

from tests import warm

WORDS = ["generate", "--max-new-tokens", "0"]
NOTHING_CAME = "standard input is open, but no text came within 1 s: it is not read\n"


@pytest.fixture
def read(tmp_path: Path):
    """What `generate` takes as the prompt, and its messages; standard input as for `subprocess.run`."""

    def command(*words: object, process=warm.liquidlm, **standard_input: object) -> tuple[str, str]:
        done = process(*WORDS, "--save-state", tmp_path / "state", *words, **standard_input)
        assert done.returncode == 0, done.stderr
        messages = done.stderr.splitlines(keepends=True)
        kept = [line for line in messages if not line.startswith("state in")]
        return done.stdout.removesuffix("\n"), "".join(kept)

    return command


CLOSED = """
import os, runpy, sys
os.close(0)
sys.stdin = None
runpy.run_module("liquidlm", run_name="__main__", alter_sys=True)
"""


def closed(*words: object) -> subprocess.CompletedProcess[str]:
    """The command without standard input, as Python begins where descriptor 0 is closed."""
    return warm.run(words, program=CLOSED)


def test_a_pipe_comes_first_and_the_argument_begins_a_new_line(read) -> None:
    assert read("stories", "the end", input=b"notes\n") == ("notes\nthe end", "")
    assert read("stories", "the end", input=b"notes") == ("notes\nthe end", "")


def test_a_file_comes_after_a_pipe(read, tmp_path: Path) -> None:
    (tmp_path / "prompt.txt").write_text("the end")
    assert read("stories", "--file", tmp_path / "prompt.txt", input=b"notes") == ("notes\nthe end", "")


def test_the_prompt_of_the_bundled_model_comes_after_a_pipe(read) -> None:
    assert read("the end", input=b"notes\n")[0] == "notes\nthe end"


def test_a_redirected_file_is_read_too(read, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("notes\n")
    with (tmp_path / "notes.txt").open() as notes:
        assert read("stories", "the end", stdin=notes) == ("notes\nthe end", "")


def test_an_empty_standard_input_changes_nothing(read) -> None:
    assert read("stories", "the end", input=b"") == ("the end", "")
    with open(os.devnull) as nothing:
        assert read("stories", "the end", stdin=nothing) == ("the end", "")


def test_a_closed_standard_input_changes_nothing(read) -> None:
    assert read("stories", "the end", process=closed) == ("the end", "")


def test_an_open_pipe_that_brings_nothing_is_not_waited_for(read) -> None:
    reader, writer = os.pipe()
    try:
        assert read("stories", "the end", stdin=reader) == ("the end", NOTHING_CAME)
    finally:
        os.close(reader)
        os.close(writer)


def test_a_pipe_goes_on_from_a_saved_state(read, tmp_path: Path) -> None:
    first = tmp_path / "first"
    read("stories", "Once", "--save-state", first)
    assert read("stories", "--load-state", first, input=b" upon a time") == (" upon a time", "")


def test_a_pipe_that_is_not_utf8_is_refused() -> None:
    done = warm.liquidlm("generate", "stories", "x", input=b"ab\xff")
    assert done.returncode == 2
    assert done.stderr == "error: standard input is not UTF-8 text: byte 2 is wrong; convert it to UTF-8\n"
