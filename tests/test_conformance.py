"""The list beside transformers' own tests: it is true, or `make conformance` fails."""

import re

import pytest

from conformance import __main__ as conformance
from conformance.verdicts import Known, differences, read_list, stale, summary, worst

KNOWN = [Known("skipped", "test_flash_*", "no attention"), Known("failed", "tied:test_load", "refused")]
TRUE = {"default:test_save": "passed", "default:test_flash_2": "skipped", "tied:test_load": "failed"}


def test_a_true_list_has_nothing_said_of_it():
    assert not list(differences(TRUE, KNOWN)) and not list(stale(TRUE, KNOWN))
    assert next(summary(TRUE)) == "default: 1 passed, 0 failed, 1 skipped"


@pytest.mark.parametrize(
    ("test", "verdict", "said"),
    [
        ("default:test_save", "failed", "test_save failed, and is not on the list"),
        ("default:test_save", "skipped", "test_save skipped, and is not on the list"),
        ("default:test_flash_2", "passed", "test_flash_2 passed, the list says skipped"),
        ("default:test_flash_2", "failed", "test_flash_2 failed, the list says skipped"),
        ("tied:test_load", "passed", "test_load passed, the list says failed"),
        ("timed:test_load", "failed", "test_load failed, and is not on the list"),
    ],
)
def test_what_is_not_as_the_list_says_is_named(test, verdict, said):
    (only,) = differences(TRUE | {test: verdict}, KNOWN)
    assert only.endswith(said)


def test_a_line_that_fits_no_test_is_named():
    assert list(stale({"tied:test_load": "failed"}, KNOWN)) == ["test_flash_* is on the list, and is no test"]
    assert list(stale({"timed:test_load": "failed"}, KNOWN[1:])) == [
        "tied:test_load is on the list, and is no test"
    ]


def test_a_test_is_what_its_worst_part_is():
    parts = [("a", "passed"), ("a", "failed"), ("a", "skipped"), ("b", "skipped"), ("b", "passed")]
    assert worst(iter(parts)) == {"a": "failed", "b": "skipped"}


@pytest.mark.parametrize("line", ["skipped test_flash", "passed test_save it does", "test_save"])
def test_a_line_without_a_reason_is_an_error(tmp_path, line):
    (tmp_path / "known.txt").write_text(f"# why\n\n{line}\n")
    with pytest.raises(ValueError, match=re.escape(line)):
        read_list(tmp_path / "known.txt")


def test_the_list_kept_here_is_one_verdict_pattern_and_reason_a_line():
    known = read_list(conformance.HERE / "known.txt")
    assert known and len({line.pattern for line in known}) == len(known)


def test_the_exit_code_says_whether_the_list_is_true(tmp_path, monkeypatch, capsys):
    """The whole runner over a test module that needs nothing fetched."""
    tests = "class TestTied:\n    def test_save(self): pass\n    def test_load(self): assert False\n"
    (tmp_path / "test_models.py").write_text(tests)
    monkeypatch.setattr(conformance, "HERE", tmp_path)
    monkeypatch.setattr(conformance, "fetched", lambda: tmp_path)
    monkeypatch.setattr("sys.argv", ["conformance"])
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("TRANSFORMERS_TEST_DEVICE", "cpu")
    for known, code in [("", 1), ("failed tied:test_load refused", 0), ("failed test_* refused", 1)]:
        (tmp_path / "known.txt").write_text(known)
        assert conformance.main() == code
        said = capsys.readouterr().out
        assert ("tied:test_load failed, and is not on the list" in said) == (known == "")
        assert ("tied:test_save passed, the list says failed" in said) == ("test_*" in known)
        assert "tied: 1 passed, 1 failed, 0 skipped" in said
