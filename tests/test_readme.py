"""The READMEs are short, and what they show is true: links, commands and code."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from transformers.utils.logging import is_progress_bar_enabled
from typer.main import get_command

from benchmarks.run import BENCHMARKS
from liquidlm.cli.main import app

ROOT = Path(__file__).parents[1]
READMES = ("README.md", "README.es.md")


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text(name), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("name", READMES)
def test_a_readme_is_short(name: str) -> None:
    lines = text(name).splitlines()
    assert len(lines) <= 150
    assert max(map(len, lines)) <= 120


@pytest.mark.parametrize("name", [*READMES, "CONTRIBUTING.md", "docs/results.md", "docs/experiments.md"])
def test_every_link_leads_to_a_file(name: str) -> None:
    folder = (ROOT / name).parent
    links = re.findall(r"\]\(([^)\s]+)\)", text(name)) + re.findall(r'(?:src|srcset)="([^"]+)"', text(name))
    for link in links:
        if not re.match(r"\w+:|#", link):
            assert (folder / link.partition("#")[0]).exists(), link


@pytest.mark.parametrize("name", READMES)
def test_files_that_are_named_exist(name: str) -> None:
    """`cli/` and `nn/cells/neuron.py` are within liquidlm/, other paths from the root."""
    named = re.findall(r"`([\w/]+(?:/|\.py))`", text(name))
    assert named
    for path in named:
        assert (ROOT / path).exists() or (ROOT / "liquidlm" / path).exists(), path


@pytest.mark.parametrize("name", READMES)
def test_names_are_where_the_readme_says(name: str) -> None:
    """A name and a file in one cell of the table of questions: the file defines the name."""
    rows = [line for line in text(name).splitlines() if re.match(r"\| .*\?`? \|", line)]
    assert len(rows) >= 5
    pairs = [pair for row in rows for pair in re.findall(r"`([\w.]+)` (?:in|en) `([\w/]+\.py)`", row)]
    assert len(pairs) >= 5
    for symbol, file in pairs:
        last = symbol.rpartition(".")[2]
        source = (ROOT / "liquidlm" / file).read_text(encoding="utf-8")
        assert re.search(rf"^\s*(?:def|class) {last}\b|^{last}\b.* = ", source, re.MULTILINE), (symbol, file)


@pytest.mark.parametrize("name", READMES)
def test_python_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    (block,) = blocks(name, "python")
    exec(compile(block, name, "exec"), {})
    printed = capsys.readouterr()
    assert "Once upon a time" in printed.out and printed.err == ""
    assert is_progress_bar_enabled()  # for the programs that load a model


@pytest.mark.parametrize("name", READMES)
def test_commands_parse_and_exist(name: str) -> None:
    commands = get_command(app).commands  # pyright: ignore[reportAttributeAccessIssue]
    found = blocks(name, "sh")
    for block in found:
        subprocess.run(["bash", "-n"], input=block, text=True, check=True)
    lines = [line for block in found for line in block.splitlines()]
    makes = [shlex.split(line, comments=True)[1] for line in lines if line.startswith("make ")]
    assert makes == ["demo", "test"]
    assert all(f"\n{target}:" in text("Makefile") for target in makes)
    calls = [line[line.index("liquidlm ") :] for line in lines if "liquidlm " in line]
    assert len(calls) == 5
    for call in calls:
        _, command, *words = shlex.split(call, comments=True)
        known = {option for each in commands[command].params for option in each.opts + each.secondary_opts}
        assert {word for word in words if word.startswith("--")} <= known, call


@pytest.mark.parametrize("name", [*READMES, "docs/results.md", "docs/results.es.md"])
def test_benchmarks_that_are_named_exist(name: str) -> None:
    named = re.findall(r"liquidlm bench (\w+)", text(name))
    table = re.search(r"liquidlm bench …`(.*?)\n\n", text(name), re.DOTALL)
    if table:
        named += re.findall(r"\| `(\w+)[^`]*` \|$", table[1], re.MULTILINE)
    assert len(named) >= 7
    assert set(named) <= set(BENCHMARKS)
