"""Text with times: readers, documents, tokens, batches."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from liquidlm.cli.main import app
from liquidlm.errors import LiquidError
from liquidlm.inference.timed_text import TimedLines, prompt_events
from liquidlm.text.batches import StreamBatches
from liquidlm.text.clock.stamps import find_stamp, format_stamp, seconds
from liquidlm.text.corpus import Document, read_documents
from liquidlm.text.event_files import TextEvent, read_events
from liquidlm.text.held_out import portions, survey
from liquidlm.text.token_cache import cached_tokens
from liquidlm.text.tokenization import tokenize_documents
from liquidlm.text.tokenizer import LEDTokenizerWrapper
from liquidlm.training.settings import TrainSettings
from liquidlm.training.text import prepare

NEW_YEAR = 1_704_067_200.0  # 2024-01-01T00:00:00Z


def events(text: str, suffix: str = ".txt") -> list[list[TextEvent]]:
    return [list(document) for document in read_events(text.splitlines(), suffix, "here")]


@pytest.mark.parametrize(
    ("time", "found"),
    [
        (3, 3.0),
        (-2.5, -2.5),
        ("12.25", 12.25),
        ("1e3", 1000.0),
        ("2024-01-01T00:00:00Z", NEW_YEAR),
        ("2024-01-01 00:00:00,500", NEW_YEAR + 0.5),
        ("2024-01-01T01:00:00+01:00", NEW_YEAR),
        ("2024-01-01T00:00:01", NEW_YEAR + 1),
        ("01:30", 90.0),
        ("01:00:01.5", 3601.5),
        ("02:03:04:05", 2 * 86400 + 3 * 3600 + 4 * 60 + 5.0),
        ("-00:00:10", -10.0),
    ],
)
def test_times(time: object, found: float) -> None:
    assert seconds(time) == found


@pytest.mark.parametrize("time", ["soon", "", None, True, float("nan"), "2024-13-01T00:00:00", [1]])
def test_what_is_no_time(time: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        seconds(time)


def test_lines_that_begin_with_a_time() -> None:
    text = """2024-01-01T00:00:00Z kernel: begins
2024-01-01 00:00:02.5 goes on
  with a second line

and a third
2024-01-01T00:00:03+00:00 ends"""
    (found,) = events(text)
    assert found == [
        (NEW_YEAR, "kernel: begins"),
        (NEW_YEAR + 2.5, "goes on\n  with a second line\n\nand a third"),
        (NEW_YEAR + 3, "ends"),
    ]


@pytest.mark.parametrize(
    ("lines", "gap"),
    [
        ("Jan  2 03:04:05 host a\nJan 12 03:04:06 host b", 10 * 86400 + 1),
        ("[00:12:31] a\n[00:12:33] b", 2),
        ("(0:05) a\n(1:05) b", 60),
        ("1700000000.5 a\n1700000001.75 b", 1.25),
        ("1700000000: a\n1700000002: b", 2),
        ("00:00:01,500\ta\n00:00:02\tb", 0.5),
        ("[    1.500] usb a\n[   12.000000] usb b", 10.5),
    ],
)
def test_kinds_of_stamps(lines: str, gap: float) -> None:
    ((a, b),) = events(lines)
    assert b.time - a.time == pytest.approx(gap) and a.text.endswith("a") and b.text.endswith("b")


def test_the_first_line_says_what_a_time_is() -> None:
    text = (
        "[00:12:31] constants:\n2.5 is one\n1:30 is when we meet\n1700000000 too\n[12.5] and\n[00:12:32] end"
    )
    a, b = events(text)[0]
    assert (a.time, b.time) == (751.0, 752.0) and b.text == "end"
    assert a.text == "constants:\n2.5 is one\n1:30 is when we meet\n1700000000 too\n[12.5] and"
    with pytest.raises(LiquidError, match="line 1: no time"):
        events("3.5 men in a boat")


def test_numbers_that_are_no_times_are_text() -> None:
    ((only,),) = events("[00:01] first\n12 men, 3 dogs\n99:99:99:99:99 x\n2024-99-01T00:00:00 y")
    assert only.text == "first\n12 men, 3 dogs\n99:99:99:99:99 x\n2024-99-01T00:00:00 y"


SRT = """1
00:00:01,000 --> 00:00:02,000
<i>Hello,</i>
there.

2
00:01:00,250 --> 00:01:02,000
{\\an8}Again.
"""
VTT = """WEBVTT

NOTE a remark

intro
00:01.000 --> 00:02.000 align:start
<v Ann>Hello,
there.

01:00.250 --> 01:02.000
Again."""


@pytest.mark.parametrize(("text", "suffix"), [(SRT, ".srt"), (VTT, ".vtt")])
def test_subtitles(text: str, suffix: str) -> None:
    assert events(text, suffix) == [[(1.0, "Hello, there."), (60.25, "Again.")]]


def test_json_lines() -> None:
    one, two = {"time": 1, "text": "a"}, {"time": "2024-01-01T00:00:00Z", "text": "b", "more": 1}
    lines = [one, two, "", [one, one], {"events": [two]}, one]
    text = "\n".join(line if line == "" else json.dumps(line) for line in lines)
    a, b = (1.0, "a"), (NEW_YEAR, "b")
    assert events(text, ".jsonl") == [[a, b], [a, a], [b], [a]]


@pytest.mark.parametrize(
    ("text", "suffix", "said"),
    [
        ("no time\n[0:01] x", ".txt", "line 1: no time"),
        ('{"text": "a"}', ".jsonl", 'line 1: an event must be a JSON object with a "time"'),
        ('{"time": 1, "text": 3}', ".jsonl", "line 1: an event must be"),
        ('{"time": "soon", "text": "a"}', ".jsonl", "line 1: \"time\" must be seconds .* not 'soon'"),
        ('{"time": 1e999, "text": "a"}', ".jsonl", 'line 1: "time" must be'),
        ("{", ".jsonl", "line 1: not JSON"),
        ('{"time": 1, "text": "\\ud800"}', ".jsonl", "line 1: .* surrogate"),
    ],
)
def test_mistakes_name_the_line(text: str, suffix: str, said: str) -> None:
    with pytest.raises(LiquidError, match=f"here, {said}"):
        events(text, suffix)


# ---- documents


@pytest.fixture
def log(tmp_path: Path) -> Path:
    file = tmp_path / "log.txt"
    file.write_text("".join(f"{1.7e9 + 3 * i:.1f} event {i} ñ\n" for i in range(300)))
    return file


def times_of(documents: list[Document]) -> list[float]:
    """Of each character."""
    found = []
    for document in documents:
        ends = [*(at for at, _ in document.marks[1:]), len(document.text)]
        for (at, time), end in zip(document.marks, ends, strict=True):
            found += [time] * (end - at)
    return found


def test_parts_and_portions_keep_every_character_s_time(log: Path) -> None:
    (whole,) = read_documents(log, timestamps=True)
    assert whole.text == "\n".join(f"event {i} ñ" for i in range(300))
    assert len(whole.marks) == 300 and whole.marks[0] == (0, 1.7e9)
    assert whole.text[whole.marks[5][0]] == "\n"  # the line break before an event is the event's
    parts = list(read_documents(log, 50, timestamps=True))
    assert len(parts) > 20 and [part.continues for part in parts] == [False] + [True] * (len(parts) - 1)
    assert "".join(part.text for part in parts) == whole.text and times_of(parts) == times_of([whole])
    for cut in (0, 1, 777, len(whole.text)):
        kept, held = (list(portions(iter(parts), [cut], side)) for side in (False, True))
        assert "".join(part.text for part in kept + held) == whole.text
        assert times_of(kept + held) == times_of([whole])
    other = log.with_name("other.txt")
    other.write_text(log.read_text().replace("1700000003.0", "1700000004.0"))
    assert (
        survey(read_documents(log, timestamps=True)).digest
        != survey(read_documents(other, timestamps=True)).digest
    )


def test_a_folder_of_logs(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("[0:01] one\n[0:02] two")
    (tmp_path / "b.srt").write_text(SRT)
    (tmp_path / "c.rst").write_text("no times, and not looked at")
    assert [document.text for document in read_documents(tmp_path, timestamps=True)] == [
        "one\ntwo",
        "Hello, there.\nAgain.",
    ]


def test_text_without_times_is_one_clear_error(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("just text")
    with pytest.raises(LiquidError, match=r"a\.txt, line 1: no time"):
        list(read_documents(file, timestamps=True))
    for nothing in ("\n\n", "[00:01]\n", "[00:01]\n\n[00:02] \n"):
        file.write_text(nothing)
        with pytest.raises(LiquidError, match="empty"):
            list(read_documents(file, timestamps=True))
    with pytest.raises(LiquidError, match="needs text that has times"):
        prepare(TrainSettings(steps=1, timestamps=True))
    with pytest.raises(LiquidError, match="times of a data set"):
        read_documents("hf:name", timestamps=True)


# ---- tokens and batches


def test_every_token_is_at_its_event_s_time(log: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("LIQUIDLM_CACHE", str(tmp_path / "cache"))
    tokenizer = LEDTokenizerWrapper.train([log.read_text()], 300)
    second = Document("a\nbc", "b", marks=((0, 5.0), (1, 5.0)))
    documents = [*read_documents(log, 50, timestamps=True), second]
    corpus = tokenize_documents(documents, tokenizer)
    stored = cached_tokens("digest", lambda: documents, tokenizer)
    assert corpus.times is not None and corpus.times.size == corpus.size and corpus.events == 302
    assert stored.times is not None and stored.times[:].tolist() == corpus.times[:].tolist()
    assert stored.events == 302 and stored.typical_gap == corpus.typical_gap == 3.0
    decoder, said = tokenizer.stream(), {}
    for token, time in zip(corpus.tokens[:].tolist(), corpus.times[:].tolist(), strict=True):
        said[time] = said.get(time, "") + decoder.push(token)
    assert said[1.7e9] == "event 0 ñ" and said[1.7e9 + 30] == "\nevent 10 ñ" and said[5.0] == "a\nbc"
    one, other = (StreamBatches(each, 3, 40, seed=1) for each in (corpus, stored))
    for _ in range(60):
        a, b = one.next_batch(), other.next_batch()
        assert a.times is not None and a.next_times is not None and b.times is not None
        assert torch.equal(a.times, b.times) and torch.equal(a.next_times[:, :-1], a.times[:, 1:])
        gaps = (a.next_times - a.times)[a.targets >= 0]
        assert bool(((gaps == 0) | (gaps == 3)).all())
    moved = tokenize_documents([Document("a\nbc", "b", marks=((0, 5.0), (1, 6.0)))], tokenizer)
    assert moved.checksum != tokenize_documents([second], tokenizer).checksum


@pytest.mark.parametrize(
    ("times", "resolution"),
    [
        ([0.0, 60.0, 180.0], 60.0),
        ([0.5, 1.5, 4.5], 1.0),  # of gaps, wherever the clock began
        ([1.7e9, 1.7e9 + 0.25, 1.7e9 + 3.33], 0.01),
        ([0.0, 0.1234567], 0.0),
        ([0.0, 1e-7], 0.0),  # nearly 0 steps of any clock, but not 0
        ([3.0, 3.0], 0.0),
    ],
)
def test_the_resolution_of_a_clock(times: list[float], resolution: float) -> None:
    document = Document("ab" * len(times), "clock", marks=tuple((2 * i, at) for i, at in enumerate(times)))
    assert tokenize_documents([document], LEDTokenizerWrapper.bytes()).resolution == resolution


def test_the_typical_gap_is_within_documents() -> None:
    apart = [Document("ab", "a", marks=((0, 1e6 * i), (1, 1e6 * i + 3))) for i in range(9)]
    assert tokenize_documents(apart, LEDTokenizerWrapper.bytes()).typical_gap == 3.0


def test_the_ring_goes_round_with_its_times() -> None:
    documents = [Document("abc", "a", marks=((0, 1.0), (2, 4.0))), Document("de", "b", marks=((0, 2.0),))]
    corpus = tokenize_documents(documents, LEDTokenizerWrapper.bytes())
    found = corpus.window(6, 6).times
    assert np.asarray(found).tolist() == [2.0, 2.0, 2.0, 1.0, 1.0, 1.0]


# ---- on the command line

SIZES = ["--hidden-size", "32", "--layers", "2", "--embedding-dim", "16", "--latent-dim", "8"]


@pytest.mark.parametrize(
    "time",
    [
        *(0.0, 5.0, 59.96, 3601.5, 90061.0, -10.0, -0.04, NEW_YEAR, NEW_YEAR + 0.5, -1e9 - 0.3),
        *(-6.2e10, -4e10, 253_402_300_799.0, 253_402_300_800.0, 1e12, -1e12, 1e16),
    ],
)
def test_a_stamp_is_read_as_it_was_written(time: float) -> None:
    shown = find_stamp(f"{format_stamp(time)} said")
    assert shown is not None and shown.time == pytest.approx(time, abs=0.051)


@pytest.mark.parametrize("times", [[10.0, 1e9, 1e15], [-1e10, 5.0, NEW_YEAR]])
def test_lines_keep_to_the_kind_of_time_that_the_first_has(times: list[float]) -> None:
    """Or the file would not be read back: its first line says what a time is."""
    lines = TimedLines()
    text = "".join(lines.push("said\n", time) for time in times)
    assert [event.time for event in events(text.removesuffix("\n"))[0]] == times


@pytest.mark.parametrize(("now", "after"), [(5.0, 1e16), (NEW_YEAR, 1e12), (None, 1.1e16)])
def test_silence_ends_where_no_time_is_read_back(now: float | None, after: float) -> None:
    with pytest.raises(LiquidError, match="is too late"):
        prompt_events("on", now, after)


def call(*words: str) -> str:
    result = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_train_eval_generate_with_times(log: Path, tmp_path: Path, as_users_run) -> None:
    out = str(tmp_path / "run")
    call("train", str(log), "--timestamps", "--out", out, "--steps", "20", "--context", "32", *SIZES)
    figures = json.loads(call("eval", out, str(log), "--timestamps", "--json"))
    assert figures["events"] == 300 and math.isfinite(figures["time_nats_per_event"])
    assert json.loads(call("eval", out, str(log), "--json"))["nats"] == figures["nats"]
    with pytest.raises(LiquidError, match=r"line 1: no time.*evaluate the text alone with --no-timestamps"):
        call("eval", out, str(Path(__file__)))
    plain = json.loads(call("eval", out, str(log), "--json", "--no-timestamps"))
    assert "events" not in plain  # the text of the file, stamps and all
    prompt = "[00:01:00] event 1\n[00:01:03] event 2"
    state = str(tmp_path / "state")
    words = ("--timestamps", "--seed", "3", "--max-new-tokens", "60")
    said = call("generate", out, prompt, *words, "--after", "240", "--save-state", state)
    assert said.startswith((prompt + "\n[00:05:03] ", prompt + "\n\n[00:05:03"))
    assert said == call("generate", out, prompt, *words, "--after", "240")
    lines = [find_stamp(line) for line in said.split("\n") if line]
    times = [line.time for line in lines if line is not None]
    assert len(times) == len(lines) and times == sorted(times)
    for more in ([], ["--after", "1"], ["more"], [f"{format_stamp(times[-1] + 1e5)} later"]):
        on = call(
            "generate",
            out,
            *([] if more[:1] == ["--after"] else more),
            *words,
            "--load-state",
            state,
            *more[:2] * (more[:1] == ["--after"]),
        )
        first = next(found for line in on.split("\n") if (found := find_stamp(line)) is not None)
        assert first.time >= times[-1] - 0.1
    with pytest.raises(
        LiquidError, match=r"the prompt begins at \[00:00:01\], before the end of the text before it"
    ):
        call("generate", out, "[00:00:01] before", *words, "--load-state", state)
    with pytest.raises(LiquidError, match="the prompt, line 1: no time"):
        call("generate", out, "no time\n[00:00:01] and one", *words)
    with pytest.raises(LiquidError, match="was trained without times"):
        call("eval", "stories", str(log), "--timestamps")
    with pytest.raises(LiquidError, match="was trained without times"):
        call("generate", "stories", "x", "--timestamps")
    with pytest.raises(LiquidError, match="was trained without times"):
        call("inspect", "stories", str(log))
    with pytest.raises(LiquidError, match="--after needs --timestamps"):
        call("generate", out, "x", "--after", "3")
    for never in ("nan", "inf", "-1", "1e300"):
        with pytest.raises(LiquidError, match=r"--after must be a number of seconds from 0 to 1e\+16, not"):
            call("generate", out, "x", "--timestamps", f"--after={never}")
    assert "one unit apart" in CliRunner().invoke(app, ["generate", out, "x", "--max-new-tokens", "1"]).output
    late = call("generate", out, "[0:09] a\n[0:08] b", "--timestamps", "--max-new-tokens", "1")
    assert late.startswith("[00:00:09] a\n[00:00:09] b")


def test_a_log_of_a_leap_year_is_read() -> None:
    before, leap, after = (seconds(f"{day} 12:00:00") for day in ("Feb 28", "Feb 29", "Mar  1"))
    assert (leap - before, after - leap) == (86400.0, 86400.0)
