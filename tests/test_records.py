"""Times and texts in records of JSON and CSV."""

import json
from typing import Any

import pytest

from liquidlm.errors import LiquidError
from liquidlm.text.event_files import read_events
from liquidlm.text.reading import ReadingOptions
from liquidlm.text.reading_facts import ReadingFacts

NOON = 1_769_860_800.0  # 2026-01-31T12:00:00Z


def read(text: str, suffix: str = ".jsonl", **options: Any) -> list[tuple[float, str]]:
    lines, given = text.split("\n"), ReadingOptions.of(**options)
    return [tuple(event) for document in read_events(lines, suffix, "here", given) for event in document]


def one(record: dict[str, Any], **options: Any) -> tuple[float, str]:
    ((time, text),) = read(json.dumps(record), **options)
    return round(time, 6), text


RECORDS: dict[str, dict[str, Any]] = {
    "docker": {"log": "ready\n", "stream": "stdout", "time": "2026-01-31T12:00:00Z"},
    "ecs": {"@timestamp": "2026-01-31T12:00:00.000Z", "log.level": "info", "message": "ready"},
    "pino": {"level": 30, "time": 1769860800000, "pid": 1, "msg": "ready"},
    "bunyan": {"v": 0, "level": 30, "msg": "ready", "time": "2026-01-31T12:00:00.000Z"},
    "zap": {"level": "info", "ts": 1769860800.0, "caller": "a.go:1", "msg": "ready"},
    "serilog": {"@t": "2026-01-31T12:00:00Z", "@m": "ready", "@i": "f"},
    "winston": {"message": "ready", "level": "info", "timestamp": "2026-01-31T12:00:00Z"},
    "structlog": {"event": "ready", "timestamp": "2026-01-31T12:00:00Z"},
    "journald": {"__REALTIME_TIMESTAMP": "1769860800000000", "MESSAGE": "ready", "PRIORITY": "6"},
    "journald bytes": {"__REALTIME_TIMESTAMP": "1769860800000000", "MESSAGE": list(b"ready")},
    "mongodb": {"t": {"$date": "2026-01-31T12:00:00.000+00:00"}, "s": "I", "msg": "ready"},
    "mongodb export": {"t": {"$date": {"$numberLong": "1769860800000"}}, "msg": "ready"},
    "google": {"timestamp": {"seconds": 1769860800, "nanos": 0}, "textPayload": "ready"},
    "google payload": {"timestamp": "2026-01-31T12:00:00Z", "jsonPayload": {"message": "ready"}},
    "otel": {"timeUnixNano": "1769860800000000000", "body": {"stringValue": "ready"}},
    "gelf": {"version": "1.1", "timestamp": 1769860800.0, "short_message": "ready"},
    "splunk": {"result": {"_time": "2026-01-31T12:00:00Z", "_raw": "ready"}},
    "cloudwatch": {"timestamp": 1769860800000, "message": "ready", "ingestionTime": 1769860900000},
    "cloudtrail": {"eventTime": "2026-01-31T12:00:00Z", "message": "ready"},
    "microseconds": {"t": 1769860800000000, "text": "ready"},
    "apart": {"date": "2026-01-31", "time": "12:00:00", "message": "ready"},
    "duration beside it": {"@timestamp": "2026-01-31T12:00:00Z", "time": 0.12, "message": "ready"},
    "duration before it": {"time": 0.12, "ts": 1769860800, "msg": "ready"},
    "in a list": {"logEvents": [{"timestamp": 1769860800000, "message": "ready"}]},
    "log4j": {"instant": {"epochSecond": 1769860800, "nanoOfSecond": 0}, "level": "INFO", "message": "ready"},
    "log4j's layout": {"timeMillis": 1769860800000, "thread": "main", "message": "ready"},
    "powershell": {"TimeCreated": "/Date(1769860800000+0100)/", "Message": "ready"},
    "fecha": {"fecha": "2026-01-31T12:00:00Z", "mensaje": "ready"},
}


@pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS)
def test_the_usual_fields_are_found(record: dict[str, Any]) -> None:
    assert one(record) == (NOON, "ready")
    assert read(json.dumps(record), ".log") == read(json.dumps(record))  # whatever the file is called


def test_a_collector_s_lists_are_one_text() -> None:
    def batch(*seconds: int) -> str:
        records = [{"timeUnixNano": f"{s}000000000", "body": {"stringValue": str(s)}} for s in seconds]
        return json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]})

    lines = f"{batch(1769860800, 1769860801)}\n{batch(1769860802)}".split("\n")
    found = [[event.time - NOON for event in document] for document in read_events(lines, ".jsonl", "here")]
    assert found == [[0.0, 1.0, 2.0]]


def test_fields_that_the_user_names() -> None:
    record = {
        "a": {"at": "2026-01-31T12:00:00Z"},
        "x.y": "dotted",
        "n": 3,
        "o": [1],
        "time": 5,
        "text": "usual",
    }
    assert one(record) == (5.0, "usual")
    assert one(record, time_field="a.at") == (NOON, "usual")
    assert one(record, text_field="x.y") == (5.0, "dotted")
    assert one(record, text_field="text, n,o") == (5.0, "usual 3 [1]")
    for option in ("time_field", "text_field"):
        with pytest.raises(
            LiquidError, match=f"here, line 1: there is no b.c for --{option[:4]}-field: .*a.at"
        ):
            one(record, **{option: "b.c"})


@pytest.mark.parametrize(
    ("numbers", "seconds"),
    [
        ([1769860800123, 1769860801123], [NOON + 0.123, NOON + 1.123]),
        (["1769860800123456", "1769860801123456"], [NOON + 0.123456, NOON + 1.123456]),
        ([1769860800123456789, 1769860801123456789], [NOON + 0.123457, NOON + 1.123457]),
        ([1769860800.5, 1769860801], [NOON + 0.5, NOON + 1]),
        ([0, 2.5, 1000], [0, 2.5, 1000]),  # since the beginning
        ([-5, 3], [-5, 3]),
        ([20260131120000, 20260131120005], [NOON, NOON + 5]),  # a date, not milliseconds
        ([0, *[1769860800123] * 3], [0, *[NOON + 0.123] * 3]),  # the unit is that of the file
    ],
)
def test_the_unit_of_numbers_is_decided_by_the_file(numbers: list, seconds: list[float]) -> None:
    text = "\n".join(json.dumps({"time": number, "text": "x"}) for number in numbers)
    assert [round(time, 6) for time, _ in read(text)] == seconds


def test_a_field_may_say_its_unit() -> None:
    assert one({"time_ms": 1500, "text": "x"}, time_field="time_ms") == (1.5, "x")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            '{"level": 3, "msg": "a"}',
            r"line 1: .*none of its fields is known as a time.*--time-field.*level, msg",
        ),
        (
            '{"ts": 3, "what": "a"}',
            r"line 1: .*none of its fields is known as a text.*--text-field.*ts, what",
        ),
        ('{"ts": 3, "msg": "a"}\n{"msg": "b"}', r'line 2: .*there is no "ts", only msg'),
        (
            '{"ts": 3, "msg": "a"}\n{"ts": 4, "msg": null}',
            r'line 2: .*there is no text in "msg", only ts, msg',
        ),
        (
            '{"ts": 3, "msg": "a"}\n{"ts": "soon", "msg": "a"}',
            r'line 2: "ts" must be .* not \'soon\'.*--time-format',
        ),
        ('{"ts": 7e10, "msg": "a"}', r'line 1: "ts" must be .* not 70000000000.0 \(.* since 1970\)'),
        (
            '{"ts": 1769860800, "msg": "a"}\n{"ts": 1769860801123, "msg": "a"}',
            r'line 1: "ts" must be .* not 1769860800 .* is not in milliseconds',
        ),
        (
            '{"ts": 1769860800, "msg": "a"}\n' * 2 + '{"ts": 1769860801123, "msg": "a"}',
            r'line 3: "ts" must be',
        ),
        ('{"ts": 3, "msg": "a"}\n[3]', r"line 2: an event must be a JSON object"),
        ('{"ts": 3, "msg": "a"}\nno', r"line 2: not JSON"),
        ('{"ts": true, "msg": "a"}', r'line 1: "ts" must be'),
    ],
)
def test_mistakes_in_records_name_the_line(text: str, said: str) -> None:
    with pytest.raises(LiquidError, match=f"here, {said}"):
        read(text)


def test_other_lines_among_json_go_on_with_the_record_before() -> None:
    text = '{"ts": 1, "msg": "a"}\n  at Main.run\n\n  at Main\n\n{"ts": 2, "msg": "b"}'
    facts = ReadingFacts()
    found = [list(document) for document in read_events(text.split("\n"), ".log", "here", facts=facts)]
    assert found == [[(1.0, "a\n  at Main.run\n\n  at Main"), (2.0, "b")]]
    assert facts.untimed == 2 and facts.kind == 'JSON, time in "ts" (seconds), text in "msg"'


@pytest.mark.parametrize(
    ("text", "suffix", "options"),
    [
        ("time,level,message\n2026-01-31T12:00:00Z,info,ready", ".csv", {}),
        ("time;level;message\n2026-01-31T12:00:00Z;info;ready", ".csv", {}),
        ("time\tlevel\tmessage\n2026-01-31T12:00:00Z\tinfo\tready", ".tsv", {}),
        ("2026-01-31T12:00:00Z,ready", ".csv", {}),
        ("when,what\n1769860800000,ready\n1769860800000,ready", ".csv", {}),
        ("2026-01-31T12:00:00Z,info,ready", ".csv", {"time_field": "0", "text_field": "2"}),
        ("a,b,c\n2026-01-31T12:00:00Z,info,ready", ".csv", {"time_field": "0", "text_field": "2"}),
        ("a,b,c\n2026-01-31T12:00:00Z,info,ready", ".csv", {"time_field": "a", "text_field": "c"}),
        ("Date,Time,Content\n2026-01-31,12:00:00,ready", ".csv", {}),
        ("sep=;\nwhen;what\n31/01/2026 12:00;ready", ".csv", {}),
        ("a,Date and Time\ni,1/31/2026 12:00:00 PM,ready", ".csv", {"text_field": "2"}),
    ],
)
def test_tables(text: str, suffix: str, options: dict[str, str]) -> None:
    assert set(read(text, suffix, **options)) == {(NOON, "ready")}


def test_cells_with_line_breaks_are_whole() -> None:
    text = 'time,message\n1,"one, and\n""two"""\n2,three'
    assert read(text, ".csv") == [(1.0, 'one, and\n"two"'), (2.0, "three")]


def test_characters_that_end_no_line_end_no_row() -> None:
    said = [f"a{each}b" for each in ("\r", "\u2028", "\x85", "\f", "\0")]
    text = "time,message\r\n" + "".join(f"{time},{each}\r\n" for time, each in enumerate(said))
    assert read(text.removesuffix("\n"), ".csv") == list(enumerate(said))
    lines = "\n".join(
        json.dumps({"time": t, "text": each}, ensure_ascii=False) for t, each in enumerate(said)
    )
    assert read(lines) == list(enumerate(said))


LOGHUB = {
    "apart": ("Id,Date,Time,Pid,Content\n1,081109,203615,148,a\n2,081109,203807,222,b", 112.0),
    "months": ("Id,Month,Date,Time,PID,Content\n1,Jun,14,15:16:01,19939,a\n2,Jun,14,15:16:02,19937,b", 1.0),
    "twice": (
        "Id,Label,Timestamp,Date,Time,Content\n1,-,1117838570,2005.06.03,2005-06-03-15.42.50.36,a\n"
        "2,-,1117838573,2005.06.03,2005-06-03-15.42.53.27,b",
        3.0,
    ),
    "Spanish": ("Fecha;Hora;Mensaje\n31/01/2026;23:59:58;a\n01/02/2026;00:00:01;b", 3.0),
}


@pytest.mark.parametrize(("text", "gap"), LOGHUB.values(), ids=LOGHUB)
def test_tables_with_dates_in_several_columns(text: str, gap: float) -> None:
    (first, a), (second, b) = read(text, ".csv")
    assert (a, b) == ("a", "b") and second - first == pytest.approx(gap)


def test_what_is_not_clear_names_the_option() -> None:
    with pytest.raises(
        LiquidError, match=r'line 2: "Date" is .03/04/26 11:59:59.: .*--time-format'
    ) as caught:
        read("Date,Message\n03/04/26 11:59:59,a\n03/04/26 12:00:01,b", ".csv")
    assert str(caught.value).count("--time-format") == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("time,message\n1,a\n2,b,c", "line 3: 3 cells, but the first row has 2"),
        ("time,message\n1,a,b\n2,b,c", "line 2: 3 cells, but the first row has 2"),
        (
            "Date,Time,Content\n17/06/09,12:00:00,a\n17/06/09,12:00:01,b",
            "line 2: .* may be read .*--time-format",
        ),
        ('time,message\n1,a\n2,"b', "line 3: not CSV"),
        ("time,message\n1,a\nsoon,b\n3,c", 'line 3: "time" must be'),
        ("time,message\n1.77344E+12,a\n1.77344E+12,b", "line 2: .*--time-format"),
        ("a,b,c\nx,y,z", "line 1: a row must have a time and a text; .*--time-field"),
        ("time,b,c\n1,y,z", "line 2: .*--text-field .*time, b, c"),
        ("time,message\n1,a", "line 2: there is no 7 for --time-field"),
    ],
)
def test_mistakes_in_tables_name_the_line(text: str, said: str) -> None:
    with pytest.raises(LiquidError, match=f"here, {said}"):
        read(text, ".csv", **({"time_field": "7"} if " 7 " in said else {}))


def test_json_over_several_lines_is_one_clear_error() -> None:
    with pytest.raises(LiquidError, match="here: JSON over several lines; write one object in a line"):
        read(json.dumps([{"time": 1, "text": "a"}], indent=1), ".json")
    with pytest.raises(LiquidError, match="here: JSON over several lines"):
        read('[{"time": 1, "text": "a"},\n{"time": 2, "text": "b"}]', ".json")
    assert read('[{"time": 1, "text": "a"}, {"time": 2, "text": "b"}]', ".json") == [(1.0, "a"), (2.0, "b")]
