"""Fixtures and settings of all tests."""

import shutil
import sys
from pathlib import Path

import jaxtyping
import pytest
import torch
from hypothesis import settings

# The same examples every time; a slow machine is no failure.
settings.register_profile("liquidlm", derandomize=True, deadline=None)
settings.load_profile("liquidlm")


LONG = ("notebooks", "processes", "wheel", "traced", "kills", "docs", "train", "export", "benchmarks")
"""Files with tests of many seconds. They begin early: at the end, one process would wait for another."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.stem.removeprefix("test_") not in LONG)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture
def drawn():
    """Curves are drawn, as they are not in other tests: that took most of the time of a tiny run."""


@pytest.fixture(autouse=True)
def _curves(request, monkeypatch):
    if "drawn" not in request.fixturenames:
        monkeypatch.setattr("liquidlm.training.progress.plot_curve", lambda entries, file: file)


@pytest.fixture
def as_users_run():
    """Without the shape checks of the tests, which would speak before the package's own errors."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


# ---- for the tests of `watch`


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, as_users_run):
    """`liquidlm watch` in this process, on a file as standard input: exit code, output, errors."""

    from liquidlm.cli import main as cli  # after the hooks of the types

    def command(*words: object, stdin: bytes) -> tuple[int, str, str]:
        (tmp_path / "stdin").write_bytes(stdin)
        capsys.readouterr()
        with (tmp_path / "stdin").open() as source, monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", source)
            patch.setattr(sys, "argv", ["liquidlm", "watch", *map(str, words)])
            try:
                cli.main()
                code = 0
            except SystemExit as stop:
                code = int(stop.code or 0)
        return code, *capsys.readouterr()

    return command


# ---- for the tests of training


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Text with something to learn: sums in words."""
    file = tmp_path_factory.mktemp("text") / "sums.txt"
    words = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight"]
    lines = [f"{words[a]} and {words[b]} make {words[a + b]}" for a in range(5) for b in range(4)]
    file.write_text("\n".join(lines[(7 * i) % 20] for i in range(400)))
    return file


@pytest.fixture(scope="session")
def finished(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 12 steps, to be copied, not changed."""
    from training import settings

    from liquidlm.training.loop import train

    out = tmp_path_factory.mktemp("finished") / "run"
    train(settings(text), out)
    return out


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    """That run in a folder of its own."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


# ---- for the tests of the page


@pytest.fixture(scope="module")
def browser():
    from browsing import launched

    with launched() as browser:
        yield browser


@pytest.fixture(scope="module")
def tab(browser):
    page = browser.new_page()
    yield page
    page.close()


@pytest.fixture
def visit(browser, tab):
    """Opens the page of a server; at the end nothing may have gone wrong in it, or gone elsewhere."""
    from browsing import Visits

    visits = Visits(browser, tab)
    yield visits
    visits.close()
    assert visits.wrong == []
