"""`liquidlm generate` without a prompt, at a terminal."""

import json
import shutil
import signal
import sys
from pathlib import Path

import pytest

from liquidlm.pretrained import shipped_models

if sys.platform == "win32":
    pytest.skip("Windows has no pseudo-terminals", allow_module_level=True)

from tests import warm
from tests.terminal import Terminal

SHORT = ("--temperature", 0, "--max-new-tokens", 6)
ENDLESS = ("--max-new-tokens", 1_000_000)


def generate(*words: object) -> str:
    """What `generate` prints in a process without a terminal."""
    done = warm.liquidlm("generate", *words)
    assert done.returncode == 0, done.stderr
    return done.stdout.removesuffix("\n")


def session(*words: object) -> Terminal:
    return Terminal("generate", *words)


def answer(terminal: Terminal, line: str) -> str:
    """What is written after a line."""
    terminal.type(f"{line}\n")
    terminal.until(f"{line}\n")
    return terminal.until("\n> ").removesuffix("\n> ")


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled model, which never writes the end of a text here."""
    folder = Path(shutil.copytree(shipped_models()["stories"], tmp_path_factory.mktemp("model") / "endless"))
    (folder / "checksums.json").unlink()
    file = folder / "generation_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "suppress_tokens": [2]}))
    return folder


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Answers of separate commands, each from the state of the one before."""
    state = tmp_path_factory.mktemp("states")
    first = generate("stories", "Once upon a time", *SHORT, "--save-state", state / "1")
    second = generate("stories", "--load-state", state / "1", *SHORT, "--save-state", state / "2")
    third = generate("stories", "\nTom", "--load-state", state / "2", *SHORT)
    return [first.removeprefix("Once upon a time"), second, third.removeprefix("\nTom")]


def test_lines_and_answers_are_one_text(parts: list[str]) -> None:
    with session("stories", *SHORT) as terminal:
        how_to = terminal.until("> ")
        assert "press Enter" in how_to and "Ctrl-D ends the session" in how_to
        found = [answer(terminal, line) for line in ("Once upon a time", "", "Tom")]
        terminal.type("\x04")
        assert terminal.ended() == 0
    assert found == parts


def test_the_bundled_model_answers_where_no_model_is_named(parts: list[str]) -> None:
    with session(*SHORT) as terminal:
        assert "model: stories, a bundled model; others: cuentos\n" in terminal.until("> ")
        assert answer(terminal, "Once upon a time") == parts[0]


def test_a_session_saves_its_state_and_continues_from_it(parts: list[str], tmp_path: Path) -> None:
    state = tmp_path / "state"
    with session("stories", *SHORT, "--save-state", state) as terminal:
        terminal.until("> ")
        assert answer(terminal, "Once upon a time") == parts[0]
        terminal.type("\x04")
        assert terminal.ended() == 0
        assert f"continue with --load-state {state}\n" in terminal.shown
    with session("stories", *SHORT, "--load-state", state) as terminal:
        terminal.until("> ")
        assert [answer(terminal, line) for line in ("", "Tom")] == parts[1:]


def test_ctrl_c_stops_the_answer_and_keeps_the_text(endless: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    with session(endless, *ENDLESS, "--save-state", state) as terminal:
        terminal.until("> ")
        terminal.type("Once upon a time\n")
        terminal.until("time\n")
        terminal.until(" ")  # a word is written
        terminal.type("\x03")
        terminal.until("\n> ")
        terminal.type("dropped")
        terminal.until("dropped")  # else the terminal may drop the letters that readline waits for
        terminal.type("\x03")
        terminal.until("Ctrl-D ends the session.\n> ")
        terminal.type("\x04")
        assert terminal.ended() == 0
    assert generate(endless, "--load-state", state, "--max-new-tokens", 1) != ""


@pytest.mark.parametrize(("number", "writes"), [(signal.SIGTERM, True), (signal.SIGHUP, False)])
def test_a_signal_ends_the_session_and_saves_its_state(
    endless: Path, tmp_path: Path, number: int, writes: bool
) -> None:
    state = tmp_path / "state"
    with session(endless, *(ENDLESS if writes else SHORT), "--save-state", state) as terminal:
        terminal.until("> ")
        terminal.type("Once upon a time\n")
        terminal.until("time\n")
        terminal.until(" " if writes else "\n> ")
        terminal.process.send_signal(number)
        assert terminal.ended() == 128 + number
    assert generate(endless, "--load-state", state, "--max-new-tokens", 1) != ""


@pytest.mark.parametrize(
    "option", [("--samples", 2), ("--after", 1, "--timestamps")], ids=lambda each: each[0]
)
def test_some_options_need_a_prompt(option: tuple[object, ...]) -> None:
    with session("stories", *option) as terminal:
        assert terminal.ended() == 2
        assert f"error: {option[0]} needs a prompt: give one\n" in terminal.shown


def test_a_prompt_at_a_terminal_is_no_session(parts: list[str]) -> None:
    with session("stories", "Once upon a time", *SHORT) as terminal:
        assert terminal.ended() == 0
        assert terminal.shown == f"Once upon a time{parts[0]}\n"
