"""`liquidlm times`: what a file's times are."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from liquidlm.cli.main import app
from liquidlm.text.gaps import EDGES, clock_step, histogram

pytestmark = pytest.mark.usefixtures("as_users_run")

LOG = """\
# a title
2026-01-31 12:00:00.250 a
2026-01-31 12:00:00.250 b
  more of b

2026-01-31 12:00:05.250 c
2026-01-31 12:00:04.000 d
2026-01-31 11:00:00.750 e
2026-01-31 11:02:00.750 f
"""
NOON = 1_769_860_800.25


def run(*words: str, stdin: bytes | None = None, code: int = 0) -> tuple[str, str]:
    result = CliRunner().invoke(app, ["times", *words], input=stdin)
    assert result.exit_code == code, result.output
    return result.stdout, result.stderr


@pytest.fixture
def log(tmp_path: Path) -> str:
    (tmp_path / "server.log").write_text(LOG)
    return str(tmp_path / "server.log")


def test_the_report(log: str) -> None:
    found = json.loads(run(log, "--json")[0])
    gaps = {(each["above"], each["to"]): each["number"] for each in found.pop("gaps") if each["number"]}
    assert gaps == {(0.0, 0.0): 3, (1.0, 10.0): 1, (60.0, 600.0): 1}
    assert found.pop("kind")
    assert found == {
        "file": log,
        "first": NOON,
        "last": NOON + 125,
        "first_date": "2026-01-31T12:00:00.250000+00:00",
        "last_date": "2026-01-31T12:02:05.250000+00:00",
        "events": 6,
        "documents": 1,
        "lines_without_time": 1,
        "lines_before_the_first_time": 1,
        "late_policy": "clamp",
        "late_lines": 1,
        "first_late_line": 7,
        "clock_set_back": 1,
        "first_line_set_back": 8,
        "step": 1.0,
        "median_gap": 0.0,
        "longest_gap": 120.0,
    }


def test_the_report_as_text(log: str) -> None:
    lines = run(log)[0].splitlines()
    assert lines[0] == log and lines[2:5] == [
        "  first     2026-01-31 12:00:00.25 UTC",
        "  last      2026-01-31 12:02:05.25 UTC (2.083 min later)",
        "  events    6",
    ]
    said = "\n".join(lines)
    for words in (
        "1 line before the first time",
        "1 late line, line 7",
        "set back once, in line 8",
        "step      1 s",
    ):
        assert words in said
    bars = [line.split() for line in lines if "█" in line]
    assert [bar[-1] for bar in bars] == ["3", "1", "1"] and len(bars[0][-2]) == 40


def test_events_are_lines_of_json(log: str) -> None:
    out, err = run(log, "--events", "--late", "sort")
    events = [json.loads(line) for line in out.splitlines()]
    assert [(event["time"] - NOON, event["text"]) for event in events] == [
        (-3599.5, "e"),
        (-3479.5, "f"),
        (0.0, "a"),
        (0.0, "b\n  more of b"),
        (3.75, "d"),
        (5.0, "c"),
    ]
    assert f"{log}: 3 late lines, the first is line 7: sorted" in err


def test_pipes_gzip_and_several_files(log: str, tmp_path: Path) -> None:
    packed = tmp_path / "a.jsonl.gz"
    packed.write_bytes(gzip.compress(b'{"ts": 90, "msg": "a"}\n{"ts": 91, "msg": "b"}'))
    first, second = map(json.loads, run(str(packed), log, "--json")[0].splitlines())
    assert (first["first"], first["first_date"], second["events"]) == (90.0, None, 6)
    piped = json.loads(run("-", "--json", stdin=LOG.encode())[0])
    assert piped == {**second, "file": "standard input"}


def test_a_bad_file_is_one_error_and_the_others_are_read(log: str, tmp_path: Path) -> None:
    (tmp_path / "bad.log").write_text("no times")
    out, err = run(str(tmp_path / "bad.log"), log, "--json", code=2)
    assert json.loads(out)["file"] == log
    assert err.startswith(f"error: {tmp_path / 'bad.log'}, line 1") and err.count("\n") == 1
    (tmp_path / "bad.log").write_text("\n")
    assert f"{tmp_path / 'bad.log'}: empty" in run(str(tmp_path / "bad.log"), code=2)[1]
    assert "line 7: the time goes back" in run(log, "--late", "error", code=2)[1]


def test_no_model_is_imported() -> None:
    code = "import sys; sys.argv[1:] = ['times', '-', '--json']; from liquidlm.cli import main\n"
    code += "try: main.main()\nexcept SystemExit: pass\n"
    code += "print({'torch', 'numpy', 'transformers'} & {*sys.modules})"
    found = subprocess.run(
        [sys.executable, "-c", code], input=LOG, capture_output=True, text=True, check=True
    )
    assert found.stdout.splitlines()[-1] == "set()"


@given(st.lists(st.integers(0, 10**6), min_size=1), st.sampled_from([60.0, 1.0, 0.1, 0.001]))
def test_every_gap_is_in_one_bin_and_a_multiple_of_the_step(counts: list[int], step: float) -> None:
    gaps = [count * step for count in counts]
    bins = histogram(gaps)
    assert [each.number for each in bins] == [
        sum((each.above < gap and (each.to is None or gap <= each.to)) or gap == each.to == 0 for gap in gaps)
        for each in bins
    ]
    today = [1.0, 1.0 + 2e-7, 1.0 - 2e-7]  # differences of times of today are no more exact
    assert {each.to for each in histogram(today) if each.number} == {1.0}
    assert bins[0].to == EDGES[0] == 0.0 and bins[-1].to is None
    found = clock_step(gaps)
    assert found >= step if any(gaps) else found == 0.0
    assert all(abs(round(gap / found) * found - gap) < 1e-6 for gap in gaps if found)
