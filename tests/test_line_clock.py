"""The time of a line, in the forms that logs have."""

import itertools
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest

from liquidlm.errors import LiquidError
from liquidlm.text.clock.line_clock import LineClock
from liquidlm.text.clock.options import ClockOptions
from liquidlm.text.event_files import read_events
from liquidlm.text.reading import ReadingOptions

NOON = 1_769_860_800  # 2026-01-31T12:00:00Z


class Case(NamedTuple):
    said: str
    options: ClockOptions
    lines: list[str]


def cases() -> list[Case]:
    found: list[Case] = []
    for line in Path(__file__).with_name("times_of_logs.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("= "):
            said, *options = line[2:].split("; ")
            given = dict(option.split("=", 1) for option in options)
            year = int(given["year"]) if "year" in given else None
            found.append(Case(said, ClockOptions(given.get("time_format"), given.get("time_zone"), year), []))
        elif found:
            found[-1].lines.append(line.replace("\\t", "\t").replace("\\x1b", "\x1b").replace("\\\\", "\\"))
    return found


def times_of(lines: list[str], options: ClockOptions | None = None) -> list[float]:
    """Seconds after noon."""
    clock = LineClock.settle(lines, options or ClockOptions(), "here")
    return [round(found.time - NOON, 6) for line in lines if (found := clock.find(line))]


def texts_of(lines: list[str], options: ClockOptions | None = None) -> list[str]:
    clock = LineClock.settle(lines, options or ClockOptions(), "here")
    return [found.without(line) if (found := clock.find(line)) else "" for line in lines]


@pytest.mark.parametrize("case", cases(), ids=lambda case: f"{case.lines[0][:40]!r}")
def test_times_of_logs(case: Case) -> None:
    how, *numbers = case.said.split()
    if how in ("error", "none"):
        with pytest.raises(LiquidError, match=numbers[0] if numbers else "here, line 1: no time"):
            times_of(case.lines, case.options)
        return
    found = times_of(case.lines, case.options)
    if how == "gaps":
        found = [round(b - a, 6) for a, b in itertools.pairwise(found)]
    assert found == [float(number) for number in numbers]


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("[Sat Jan 31 12:00:00 2026] [notice] ready", "[notice] ready"),
        ('10.0.0.1 - - [31/Jan/2026:12:00:00 +0000] "GET /"', '10.0.0.1 - - "GET /"'),
        ("I0131 12:00:00.123456   1 main.go:1] ready", "I  1 main.go:1] ready"),
        ("ts=2026-01-31T12:00:00Z level=info", "level=info"),
        ('level=info time="2026-01-31T12:00:00Z" msg=a', "level=info msg=a"),
        ("INFO:root:2026-01-31 12:00:00,123:ready", "INFO:root:ready"),
        ("I, [2026-01-31T12:00:00.123456 #12]  INFO -- : a", "I, [#12]  INFO -- : a"),
        ("<34>1 2026-01-31T12:00:00Z host app", "<34>1 host app"),
        ("\x1b[32m2026-01-31 12:00:00\x1b[0m ready", "ready"),
        ("\0" * 300 + "2026-01-31 12:00:00 ready", "ready"),
        ("\u200e[31/1/26, 12:00:00] Ana: \u200eready", "Ana: \u200eready"),
        ("*Jan 31 12:00:00: %SYS-5: ready", "*%SYS-5: ready"),
        ("   2026-01-31 12:00:00 ready", "ready"),
        ("ready 2026-01-31 12:00:00", "ready"),
        ("[12:00:00 INF] ready", "[INF] ready"),
        ("2026-01-31 12:00:00,123 - a - b", "- a - b"),
    ],
)
def test_the_text_stays_whole(line: str, text: str) -> None:
    assert texts_of([line]) == [text]


def test_what_goes_on_with_an_event_has_no_time() -> None:
    lines = [
        "INFO  2026-01-31 12:00:00,123 [main] started",
        "ERROR 2026-01-31 12:00:02,123 [main] failed",
        "Caused by: lease of 2026-01-31 11:00:00,000 is over",
        "  at Main.run(Main.java:10)",
        "  2026-01-31 11:00:00,000 was the last heartbeat",
        "INFO  2026-01-31 12:00:03,123 [main] 1769860800 is no time here",
    ]
    assert times_of(lines) == [0.123, 2.123, 3.123]
    lines = [line.removeprefix("INFO  ").removeprefix("ERROR ") for line in lines]
    assert times_of([line for line in lines if not line.startswith("  2026")]) == [0.123, 2.123, 3.123]


def test_most_lines_in_order_decide() -> None:
    """Not the first line, and not a time in the text."""
    lines = ["started 2026-01-30 08:00:00", *(f"{i} 12:00:0{i} until 2026-02-01 00:00:00" for i in range(9))]
    assert [b - a for a, b in itertools.pairwise(times_of(lines))] == [1.0] * 8
    lines = [f"start=2026-01-01T00:00:00Z now=2026-01-31T12:00:0{i}Z ready" for i in range(5)]
    assert times_of(lines) == [0, 1, 2, 3, 4]
    lines = [f"expires=2026-03-0{9 - i}T12:00:00Z time=2026-01-31T12:00:0{i}Z ready" for i in range(5)]
    assert times_of(lines) == [0, 1, 2, 3, 4]


def test_a_date_that_shows_another_order_is_an_error() -> None:
    lines = ["03/04/2026 12:00:00 a", "04/04/2026 12:00:00 b", "05/04/2026 12:00:00 c"]
    clock = LineClock.settle(lines, ClockOptions(), "here")
    assert clock.find(lines[0]) and "day first" in clock.name
    with pytest.raises(LiquidError, match=r"04/13/2026 .*day first.*--time-format"):
        clock.find("04/13/2026 12:00:00 d")


def test_an_ambiguous_date_says_what_to_write() -> None:
    lines = ["03/04/2026 12:00:00 a"]
    with pytest.raises(LiquidError, match=r'here: line 1: 03/04/2026.*"%d/%m/%Y …" or "%m/%d/%Y …"'):
        times_of(lines)
    for own, month in (("%d/%m/%Y %H:%M:%S", 4), ("%m/%d/%Y %H:%M:%S", 3)):
        day = datetime(2026, month, 7 - month, 12, tzinfo=UTC)
        assert times_of(lines, ClockOptions(time_format=own)) == [day.timestamp() - NOON]


@pytest.mark.parametrize(
    ("own", "line", "time"),
    [
        ("%Y-%m-%d %H:%M:%S.%f", "a 2026-01-31 12:00:00.123456789 b", 0.123457),
        ("%d.%m.%y %H:%M", "31.01.26 12:01 a", 60),
        ("%d%b%Y:%H:%M:%S %z", "31JAN2026:12:00:00 +0100 a", -3600),
        ("%s", "x 1769860800123 a", 0.123),
        ("%A, %d de %B de %Y a las %I.%M %p", "sábado, 31 de enero de 2026 a las 01.00 PM x", 3600),
        ("%FT%T%z", "2026-01-31T12:00:00+01:00 x", -3600),
        ("%H.%M.%S %d|%m|%Y", "12.00.05 31|01|2026 x", 5),
        (r"@(?P<time>\S+ \S+)@", "a 10 @2026-01-31 12:00:00@ x", 0),
        (r"\bsent=\d+,(?P<time>\d+)", "id=1769000000,sent=1,1769860800 x", 0),
    ],
)
def test_a_format_that_the_user_gives(own: str, line: str, time: float) -> None:
    assert times_of([line], ClockOptions(time_format=own)) == [time]


@pytest.mark.parametrize(
    ("given", "line", "said"),
    [
        ({"time_format": "%Q %H"}, "12 a", "--time-format %Q %H: %Q is not known"),
        ({"time_format": "%Y-%m"}, "2026-01 a", "%Y-%m says too little"),
        ({"time_format": "%H:%M:%H"}, "2026-01 a", "says a part of the time twice"),
        ({"time_format": "(?P<time>["}, "2026-01 a", r"not a regular expression \(unterminated"),
        ({"time_format": "%d.%m.%Y %H:%M"}, "2026-01-31 12:00 a", r"no time of the form %d.%m.%Y %H:%M"),
        ({"time_zone": "Europe/Madird"}, "2026-01-31 12:00 a", "--time-zone Europe/Madird is not known"),
        ({"time_zone": "IST"}, "2026-01-31 12:00 a", r"IST \(Kolkata, .*\) is not known"),
        ({"time_zone": "../x"}, "2026-01-31 12:00 a", r"--time-zone \.\./x is not known"),
        ({"year": 2025}, "Feb 29 12:00:00 a", "no February 29 in 2025: give another --year"),
    ],
)
def test_mistakes_in_what_the_user_says(given: dict, line: str, said: str) -> None:
    with pytest.raises(LiquidError, match=said):
        times_of([line], ClockOptions(**given))


def test_zones_that_the_user_gives() -> None:
    for zone, hours in (
        ("Europe/Madrid", 1),
        ("+05:30", 5.5),
        ("-0300", -3),
        ("CET", 1),
        ("EST", -5),
        ("UTC", 0),
    ):
        assert times_of(["2026-01-31 12:00:00 a"], ClockOptions(time_zone=zone)) == [-3600 * hours]
        assert times_of(["2026-01-31 12:00:00Z a"], ClockOptions(time_zone=zone)) == [0]
    assert times_of(["2026-01-31 12:00:00 XYZT a"], ClockOptions(time_zone="+01:00")) == [-3600]
    assert times_of(["2026-01-31 12:00:00 IST a"], ClockOptions(time_zone="Asia/Kolkata")) == [-3600 * 5.5]


def test_an_hour_that_is_there_twice() -> None:
    lines = [f"2026-10-25 {time} a" for time in ("01:59:59", "02:00:00", "02:59:59", "02:00:00", "03:00:00")]
    found = times_of(lines, ClockOptions(time_zone="Europe/Madrid"))
    assert [b - a for a, b in itertools.pairwise(found)] == [1, 3599, 1, 3600]


def test_a_state_goes_on_where_it_was() -> None:
    lines = ["Dec 31 23:59:58 h a", "Dec 31 23:59:59 h b", "Jan  1 00:00:01 h c", "Dec 31 23:59:59 h late"]
    clock = LineClock.settle(lines, ClockOptions(year=2025), "here")
    found = []
    for line in lines:
        clock = LineClock.restore(json.loads(json.dumps(clock.state())))
        found.append(clock.find(line).time - 1_767_225_600)  # type: ignore
    assert found == [-2, -1, 1, -1]
    lines = ["2026-01-31 12:00:00 CET is a zone", "2026-01-31 12:00:01 b", "2026-01-31 12:00:02 c"]
    clock = LineClock.restore(LineClock.settle(lines, ClockOptions(), "here").state())
    assert clock.find(lines[0]) == (NOON, 0, 20)
    own = LineClock.settle(["31|01|2026 12 a"], ClockOptions(time_format="%d|%m|%Y %H"), "here")
    assert LineClock.restore(own.state()).find("31|01|2026 13 a") == own.find("31|01|2026 13 a")


FORMS = (
    "%Y-%m-%dT%H:%M:%S.%fZ",
    "%Y-%m-%d %H:%M:%S,%f",
    "[%d/%b/%Y:%H:%M:%S.%f +0000]",
    "%Y%m%d %H%M%S.%f",
    "%a %b %d %H:%M:%S.%f %Y",
    "%d.%m.%Y %H:%M:%S.%f",
    "%Y/%m/%d %I:%M:%S.%f %p",
    "%Y-%m-%d-%H.%M.%S.%f",
)


@pytest.mark.parametrize("form", FORMS)
def test_what_is_written_is_read(form: str) -> None:
    begin = datetime(1999, 12, 28, 23, 59, 59, 999_999, tzinfo=UTC)
    moments = [begin + i * timedelta(hours=31, minutes=17, seconds=7.654321) for i in range(900)]
    lines = [f"{moment:{form}} event" for moment in moments]
    clock = LineClock.settle(lines, ClockOptions(), "here")
    found = [clock.find(line) for line in lines]
    assert [round(one.time - m.timestamp(), 6) for one, m in zip(found, moments, strict=True) if one] == [
        0.0
    ] * 900


def test_a_log_is_read_with_what_the_user_says() -> None:
    lines = ["03/04/2026 12:00:00 CET a", "03/04/2026 12:00:01 CET b"]
    options = ReadingOptions.of(time_format="%d/%m/%Y %H:%M:%S %Z")
    (events,) = [list(document) for document in read_events(lines, ".log", "here", options)]
    assert [(event.time - NOON) / 3600 for event in events[:1]] == [62 * 24 - 1.0]
    assert [event.text for event in events] == ["a", "b"]


@pytest.mark.parametrize(
    ("lines", "gaps"),
    [
        (["[00:00:00:05] a", "[00:00:01:05] b", "[01:00:00:00] c"], [60, 86_335]),  # days first
        (["[-00:00:00:05] a", "[00:00:00:01] b"], [6]),
        (["[23:59:59] a", "[24:00:01] b", "[100:00:01] c"], [2, 76 * 3600]),  # hours go on
        (["12:00:00:250 a", "12:00:01:000 b"], [0.75]),
        (["00:59 a", "01:01 b", "1:00:01 c"], [2, 3540]),
        (["[12.5] a", "[13.25] b"], [0.75]),
        (["[12] a", "[15] b"], [3]),
    ],
)
def test_clocks_since_the_beginning(lines: list[str], gaps: list[float]) -> None:
    assert [round(b - a, 6) for a, b in itertools.pairwise(times_of(lines))] == gaps


def test_values_of_fields() -> None:
    clock = LineClock.settle(["31/01/2026 12:00:00"], ClockOptions(), "here")
    assert clock.seconds(" 31/01/2026 12:00:05 ") == NOON + 5 and clock.seconds(5) == 5.0
    for wrong in ("31/01/2026 12:00:05 and more", "soon", None, True, float("inf"), [3]):
        with pytest.raises(ValueError, match="time"):
            clock.seconds(wrong)
    assert LineClock.settle(["2026-01-31"], ClockOptions(), "here").seconds("2026-02-01") == NOON + 43200
