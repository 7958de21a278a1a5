"""Runs transformers' tests on our models and compares what becomes of them with known.txt."""

import os
import sys
from pathlib import Path

import pytest

from .source import fetched
from .verdicts import FAILED, SKIPPED, differences, read_list, stale, summary, worst

HERE = Path(__file__).parent


class Recorder:
    """A plugin of pytest that keeps the verdict on every part of every test."""

    def __init__(self):
        self.reports: list[tuple[str, str]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        *_, configuration, test = report.nodeid.split("::")
        if report.when == "call" or report.outcome in (FAILED, SKIPPED):
            self.reports.append((f"{configuration.removeprefix('Test').lower()}:{test}", report.outcome))


def main() -> int:
    """Of the arguments those of pytest; with `-k` the list may have more than was run."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ.setdefault("TRANSFORMERS_TEST_DEVICE", "cpu")  # the list is of what a CPU can run
    fetched()
    recorder = Recorder()
    options = ["-c", os.devnull, "--rootdir", str(HERE), "-p", "no:cacheprovider", "-q", "-W", "ignore"]
    code = pytest.main([str(HERE / "test_models.py"), *options, *sys.argv[1:]], plugins=[recorder])
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        return int(code)
    found = worst(iter(recorder.reports))
    known = read_list(HERE / "known.txt")
    wrong = [*differences(found, known), *([] if "-k" in sys.argv else stale(found, known))]
    print("", *wrong, *summary(found), sep="\n")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
