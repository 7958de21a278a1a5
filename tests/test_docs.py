"""The documentation: the site builds without a warning, and what its pages show runs."""

import ast
import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import typer
import yaml

from liquidlm.cli.main import app

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
LOGS = ("experiments.md", "results.md")
"""Pages that record what was measured: their commands may belong to an earlier commit."""
PAGES = sorted(page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md"))
SPANISH = [page for page in PAGES if page.endswith(".es.md")]
ENGLISH = [page for page in PAGES if page not in SPANISH and page not in LOGS]
NOT_RUN = [
    ("many-processes.md", "needs several processes. `tests/test_sequence_parallel.py` starts them."),
    ("serving.md", "needs a running server."),
    ("serving.md", "needs a running server."),
    ("tools.md", "downloads a data set. `tests/test_lm_eval.py` runs tasks of its own."),
    ("tools.md", "needs the exported folder. `tests/test_export.py` runs such a loop."),
]
"""Blocks that are not run, each with the reason that its page gives in the line above it."""
MARK = re.compile(r"\*\(Not run by the tests: (.*)\)\*\n*$")


class Block(NamedTuple):
    """A fenced block of code: its text, the line of the page where it begins, and why it is not run."""

    text: str
    line: int
    not_run: str | None


def blocks(page: str, language: str) -> list[Block]:
    text = (DOCS / page).read_text(encoding="utf-8")
    found = []
    for match in re.finditer(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        mark = MARK.search(text[: match.start()])
        line = text[: match.start(1)].count("\n")
        found.append(Block(match[1], line, mark[1] if mark else None))
    return found


def commands(page: str) -> list[list[str]]:
    """The calls of the command line in a page's shell blocks, as lists of words."""
    found = []
    for block in blocks(page, "sh"):
        for line in block.text.replace("\\\n", " ").splitlines():
            for part in line.split(" | "):
                words = shlex.split(re.sub(r" [<>]+ \S+", "", part), comments=True)  # without redirections
                if "liquidlm" in words and (words[0] == "liquidlm" or "-m" in words):
                    found.append(words[words.index("liquidlm") + 1 :])
    return found


def check_command(words: list[str]) -> None:
    """Raises an error of the parser if there is no such command or option."""
    group = typer.main.get_command(app)
    context = typer.Context(group, info_name="liquidlm")
    command = group.get_command(context, words[0])  # pyright: ignore[reportAttributeAccessIssue]
    assert command is not None, f"there is no command {words[0]}"
    command.make_context(words[0], words[1:], parent=context)


def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("mkdocs", reason="mkdocs is not installed: the docs extra has it")
    pytest.importorskip("material", reason="mkdocs-material is not installed: the docs extra has it")
    build = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", tmp_path / "site"],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert build.returncode == 0, build.stderr
    assert build.stderr == ""
    assert (tmp_path / "site" / "es" / "index.html").exists()


def test_the_figures_are_drawn_by_their_script(tmp_path):
    runpy.run_path(str(DOCS / "figures" / "draw.py"))["main"](tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {
        file.name for file in (DOCS / "figures").glob("*.svg")
    }


@pytest.mark.filterwarnings("ignore")  # warnings of the tools that the pages show
@pytest.mark.parametrize("page", [page for page in ENGLISH if blocks(page, "python")])
def test_the_python_of_a_page_runs(page, tmp_path, monkeypatch):
    """The blocks of a page run in their order, in one namespace."""
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "page"}
    for block in blocks(page, "python"):
        code = compile("\n" * block.line + block.text, str(DOCS / page), "exec")
        if block.not_run is None:
            exec(code, names)


def test_every_block_that_is_not_run_is_listed():
    found = [(page, block.not_run) for page in ENGLISH for block in blocks(page, "python") if block.not_run]
    assert found == NOT_RUN


@pytest.mark.parametrize("page", [*ENGLISH, *SPANISH])
def test_the_commands_of_a_page_exist(page):
    for words in commands(page):
        check_command(words)


def test_a_wrong_command_is_found():
    with pytest.raises(AssertionError, match="no command wirte"):
        check_command(["wirte"])
    with pytest.raises(Exception, match="No such option"):
        check_command(["generate", "stories", "--no-such-option"])


@pytest.mark.parametrize("page", SPANISH)
def test_a_translated_page_shows_the_same_python(page):
    def trees(name: str) -> list[str]:
        return [ast.dump(ast.parse(block.text)) for block in blocks(name, "python")]

    assert trees(page) == trees(page.replace(".es.md", ".md"))


@pytest.mark.parametrize("page", SPANISH)
def test_a_translated_page_gives_the_same_figures(page):
    """Digits in their order, without points and commas: Spanish swaps the two."""

    def digits(name: str) -> list[str]:
        return re.findall(r"\d+", (DOCS / name).read_text(encoding="utf-8"))

    assert digits(page) == digits(page.replace(".es.md", ".md"))


LINK = re.compile(r"\[([^\[\]]*)\]\(([^)#\s]+)[^)]*\)")
OTHER_LANGUAGE = ("In English", "En español")
"""The texts of links that lead to the same page in the other language."""


def linked_files(page: Path) -> list[Path]:
    """The files that a page links to, without the page in the other language."""
    text = page.read_text(encoding="utf-8")
    links = [link for words, link in LINK.findall(text) if words not in OTHER_LANGUAGE]
    links += re.findall(r'(?:src|srcset)="([^"]+)"', text)
    return [(page.parent / link).resolve() for link in links if not re.match(r"\w+:", link)]


def in_spanish(file: Path) -> Path:
    """Where the Spanish version of a page or figure would be."""
    return file.with_name(f"{file.stem}{'.es' if file.suffix == '.md' else '-es'}{file.suffix}")


@pytest.mark.parametrize("page", [*SPANISH, "../README.es.md"])
def test_a_spanish_page_leads_to_spanish_pages_and_figures(page):
    files = linked_files(DOCS / page)
    assert [file.name for file in files if in_spanish(file).exists()] == []


@pytest.mark.parametrize("page", [*ENGLISH, *LOGS, "../README.md"])
def test_an_english_page_leads_to_english_pages_and_figures(page):
    files = linked_files(DOCS / page)
    assert [file.name for file in files if re.search(r"\.es\.md$|-es\.\w+$", file.name)] == []


def test_a_link_into_the_other_language_is_found(tmp_path):
    page = tmp_path / "page.es.md"
    page.write_text("Véase [la idea](other.md#state) [In English](page.md).\n![Figura](figure-es.svg)\n")
    (tmp_path / "other.es.md").touch()
    (other, figure) = linked_files(page)
    assert in_spanish(other).exists() and not in_spanish(figure).exists()


def test_the_menu_of_the_site_is_in_spanish():
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    (languages,) = [one["i18n"]["languages"] for one in site["plugins"] if "i18n" in one]
    pages = [*site["nav"], *(page for entry in site["nav"] for page in entry.get("Python API", []))]
    titles = {title for page in pages if isinstance(page, dict) for title in page}
    same_word = {"Embedding"}
    assert titles - same_word == set(languages[1]["nav_translations"])


COMMIT = re.compile(r"\b(?=[a-f]*\d)[0-9a-f]{7}\b")


def tables(page: str) -> list[tuple[str, list[str]]]:
    """The text before each table of a page, since its heading or the table before, and the table's rows."""
    found, before, rows = [], [], []
    for line in [*(DOCS / page).read_text(encoding="utf-8").splitlines(), ""]:
        if line.startswith("|"):
            rows.append(line)
            continue
        if rows:
            found.append(("\n".join(before), rows[2:]))
            before, rows = [], []
        before = [line] if line.startswith("#") else [*before, line]
    return found


@pytest.mark.parametrize("page", ["results.md", "results.es.md"])
def test_every_result_names_its_commit(page):
    found = tables(page)
    assert len(found) > 20
    unnamed = [row for before, rows in found if not COMMIT.search(before) for row in rows]
    assert not [row for row in unnamed if not COMMIT.search(row)]
