"""Times that go back: clamped, an error, or sorted."""

import json
from dataclasses import asdict
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from liquidlm.errors import LiquidError
from liquidlm.inference.line_cutter import LineCutter
from liquidlm.inference.log_lines import LogPosition
from liquidlm.inference.timed_text import prompt_events
from liquidlm.text.event_files import read_events
from liquidlm.text.reading import ReadingOptions
from liquidlm.text.reading_facts import ReadingFacts
from liquidlm.text.timeline import Timeline

LATE_LINES = "2026-01-31 12:00:00 a\n2026-01-31 12:00:05 b\n2026-01-31 12:00:04 c\n2026-01-31 12:00:06 d"
CLOCK_BACK = "2026-10-25 02:59:59 a\n2026-10-25 02:00:00 b\n2026-10-25 02:00:01 c"
NEW_YEAR = "Dec 31 23:59:58 host app: a\nDec 31 23:59:59 host app: b\nJan  1 00:00:01 host app: c"
CUES = "1\n00:00:09,000 --> 00:00:10,000\nlater\n\n2\n00:00:01,000 --> 00:00:02,000\nsooner"


def read(
    text: str, late: str = "clamp", suffix: str = ".log"
) -> tuple[list[tuple[float, str]], ReadingFacts]:
    """Gaps from the first time, with the texts, and what was found."""
    facts = ReadingFacts()
    (events,) = read_events(text.split("\n"), suffix, "here", ReadingOptions(late=late), facts)
    found = [tuple(event) for event in events]
    return [(time - found[0][0], text) for time, text in found], facts


def test_a_late_line_is_taken_at_the_time_of_the_one_before() -> None:
    events, facts = read(LATE_LINES)
    assert events == [(0.0, "a"), (5.0, "b"), (5.0, "c"), (6.0, "d")]
    assert facts.notes() == ["1 late line, line 3: taken at the time of the line before (--late clamp)"]


def test_a_clock_set_back_goes_on() -> None:
    events, facts = read(CLOCK_BACK)
    assert events == [(0.0, "a"), (0.0, "b"), (1.0, "c")]
    (note,) = facts.notes()
    assert note.startswith("the clock was set back once, in line 2: times go on from the line before")
    assert facts.timeline.late == 0 and facts.timeline.set_back == 1


def test_a_year_that_is_over_is_no_clock_set_back() -> None:
    events, facts = read(NEW_YEAR)
    assert [time for time, _ in events] == [0.0, 1.0, 3.0] and facts.timeline.notes() == {}


@pytest.mark.parametrize(("text", "line"), [(LATE_LINES, 3), (CLOCK_BACK, 2)])
def test_late_error_names_the_line(text: str, line: int) -> None:
    with pytest.raises(LiquidError, match=f"here, line {line}: the time goes back.*--late sort"):
        read(text, "error")


def test_late_sort_is_stable() -> None:
    events, facts = read(LATE_LINES, "sort")
    assert events == [(0.0, "a"), (4.0, "c"), (5.0, "b"), (6.0, "d")]
    assert facts.notes() == ["1 late line, line 3: sorted (--late sort)"]
    assert read(CLOCK_BACK, "sort")[0] == [(0.0, "b"), (1.0, "c"), (3599.0, "a")]
    ties = "\n".join(f"[{second}] {number}" for number, second in enumerate([5, 1, 5, 1, 1]))
    assert [text for _, text in read(ties, "sort")[0]] == ["1", "3", "4", "0", "2"]


def test_a_minute_is_late_and_more_is_another_clock() -> None:
    assert read("[100] a\n[40] b\n[101] c")[0] == [(0.0, "a"), (0.0, "b"), (1.0, "c")]
    assert read("[100] a\n[39] b\n[40] c")[0] == [(0.0, "a"), (0.0, "b"), (1.0, "c")]


def test_cues_are_sorted_unless_they_are_to_be_an_error() -> None:
    assert read(CUES, suffix=".srt")[0] == [(0.0, "sooner"), (8.0, "later")]
    with pytest.raises(LiquidError, match="the time goes back"):
        read(CUES, "error", suffix=".srt")


def test_each_list_of_events_has_its_own_clock() -> None:
    text = "\n".join(json.dumps([{"time": t, "text": "x"} for t in times]) for times in ([5, 4], [1, 9]))
    facts = ReadingFacts()
    found = [
        [event.time for event in document]
        for document in read_events(text.split("\n"), ".jsonl", "here", facts=facts)
    ]
    assert found == [[5.0, 5.0], [1.0, 9.0]] and (facts.timeline.late, facts.timeline.set_back) == (1, 0)


@given(st.lists(st.floats(-1e9, 1e9), min_size=1))
def test_times_never_go_back_and_the_place_is_kept_in_json(times: list[float]) -> None:
    whole, timeline = Timeline(), Timeline()
    found = []
    for number, time in enumerate(times, 1):
        timeline = Timeline(**json.loads(json.dumps(asdict(timeline))))
        found.append(timeline.place(time, number))
        assert found[-1] == whole.place(time, number)
    assert found == sorted(found) and timeline.late + timeline.set_back <= len(times) - 1
    back = sum(b < a for a, b in pairwise(times))
    assert (timeline.late + timeline.set_back == 0) == (back == 0)


STREAMS = {
    "late": LATE_LINES,
    "back": CLOCK_BACK,
    "new year": NEW_YEAR,
    "title": "# a title\n[1] a\n  of a\n\n\n  more\n\n[2]\n  b\n[0] c",
    "json": '{"ts": 5, "msg": "a"}\n  trace\n{"ts": 4, "msg": "b\\nc"}\n{"ts": 900, "msg": ""}\n'
    '{"ts": 1, "msg": "d"}',
}


@pytest.mark.parametrize("text", STREAMS.values(), ids=STREAMS)
def test_watch_reads_what_train_reads(text: str) -> None:
    """Line by line, with the place kept in a file between two lines."""
    documents = read_events(text.split("\n"), ".log", "here")
    (events,) = [list(document) for document in documents]
    cutter, place = LineCutter(), LogPosition(0)
    parts = cutter.push(text.encode(), final=True)
    parts = place.records(parts, final=True)
    found: list[tuple[float | None, str]] = []
    for part in parts:
        place = LogPosition.restore(json.loads(json.dumps(place.as_dict())))
        said = place.put(part, timed=True)
        found.append((place.time, said))
    assert "".join(said for _, said in found) == "\n".join(event.text for event in events)
    assert sorted({time for time, _ in found if time is not None}) == sorted({event.time for event in events})


def test_a_prompt_is_read_as_a_file_is() -> None:
    lines = ["[00:01:40] a", "[00:01:45] b", "[00:01:44] c", "[00:00:09] d", "[00:00:10] e"]
    times = [event.time for event in prompt_events("\n".join(lines), None, None)]
    assert times == [100.0, 105.0, 105.0, 105.0, 106.0]
