"""CSV, and long lines of JSON, as a stream: what `watch` reads is what `train` reads in a file."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from logs import reader, tiny

from liquidlm import LEDTokenizerWrapper
from liquidlm.errors import LiquidError
from liquidlm.inference.line_cutter import MAX_CHARACTERS, LineCutter
from liquidlm.inference.log_lines import LogPosition
from liquidlm.inference.saving import save_model
from liquidlm.text.event_files import read_events
from liquidlm.text.reading import ReadingOptions

NOON = 1769860800.0


def events(data: bytes, size: int, **options: Any) -> Iterator[tuple[float | None, str]]:
    """Time and text of each line of a stream that comes `size` bytes at a time, as the model reads them."""
    cutter, place = LineCutter(), LogPosition(0, ReadingOptions.of(**options))
    for begin in range(0, len(data) + size, size):
        final = begin >= len(data)
        for part in place.records(cutter.push(data[begin : begin + size], final), final):
            text = place.put(part, timed=True)
            yield place.time, text


TABLES = {
    "usual names": ("time,level,message\n2026-01-31T12:00:00Z,info,ready\n2026-01-31T12:00:05Z,info,a", {}),
    "CRLF": ('ts;msg\r\n2026-01-31 12:00:00;"on,\r\noff"\r\n2026-01-31 12:00:01;5" pipe\r\n', {}),
    "tabs": ("timestamp\tmessage\n1769860800123\tone\n1769860800456\ttwo\n", {}),
    "line breaks": ('time,message\n1,"one, and\n\n""two"""\n2,three\n\n3,"a\nb\nc"\n', {}),
    "one other column": ("when,what\n2026-01-31 12:00:00,on\n2026-01-31 12:00:01,off\n", {}),
    "named": (
        "a,b,c\n2026-01-31 12:00:00,x,on\n2026-01-31 12:00:01,y,off\n",
        {"time_field": "a", "text_field": "c"},
    ),
    "joined": (
        "d,t,m,n\n2026-01-31,12:00:00,x,on\n2026-01-31,12:00:09,y,off\n",
        {"time_field": "d,t", "text_field": "m,n"},
    ),
    "numbers": (
        "a,b,c\n2026-01-31 12:00:00,x,on\n2026-01-31 12:00:01,y,off\n",
        {"time_field": "0", "text_field": "2"},
    ),
    "no header": (
        "2026-01-31 12:00:00,x,on\n2026-01-31 12:00:01,y,off\n",
        {"time_field": "0", "text_field": "2"},
    ),
    "date and time": ("Date,Time,Content\n2026-01-31,12:00:00,a\n2026-01-31,12:00:09,b\n", {}),
    "a format": (
        "time,text\n31|01|26 12.00.00,a\n31|01|26 12.00.09,b\n",
        {"time_format": "%d|%m|%y %H.%M.%S"},
    ),
    "Spanish": ("Fecha;Hora;Mensaje\n31/01/2026;23:59:58;a\n01/02/2026;00:00:01;b\n", {}),
}


@pytest.mark.parametrize("size", [1, 9, 10_000])
@pytest.mark.parametrize(("text", "options"), TABLES.values(), ids=TABLES)
def test_a_stream_is_read_as_the_file_is(text: str, options: dict[str, str], size: int) -> None:
    lines = text.removesuffix("\n").split("\n")
    (document,) = [list(one) for one in read_events(lines, ".csv", "here", ReadingOptions.of(**options))]
    found = [(time, text.removeprefix("\n")) for time, text in events(text.encode(), size, **options) if text]
    assert found == document and len(found) > 1


def test_a_position_goes_on_without_the_header_and_skips_one_that_comes_again() -> None:
    place = LogPosition(0)
    first, *rest = ['time,text\n1,"a"\n', 'time,text\n2,"b"\n', "3,c\n"]
    said = [place.put(part, timed=True) for part in place.records(LineCutter().push(first.encode()))]
    for more in rest:
        place = LogPosition.restore(json.loads(json.dumps(place.as_dict())))
        parts = place.records(LineCutter().push(more.encode()))
        said += [place.put(part, timed=True) for part in parts]
    assert said == ["", "a", "", "\nb", "\nc"] and place.number == 5


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ("time,text\n1,a\n2,b,c\n", {}, "line 3: 3 cells, but the first row has 2"),
        ('time,text\n1,"a\nb"\nsoon,b\n', {}, 'line 4: "time" must be'),
        ('time,text\n1,a\n2,"b', {}, "line 3: not CSV"),
        ('time,text\n1,a\n2,"b' + ("b" * 9999 + "\n") * 14, {}, "line 3: not CSV"),
        ("time,b,c\n1,y,z\n", {}, "line 2: .*--text-field .*time, b, c"),
        ("1,y,z\n", {"time_field": "ts"}, "there is no column ts in its first line, only 1, y, z; .*tail -n"),
        ("time,text\n03/04/26,a\n", {}, "line 2: .*--time-format"),
    ],
)
def test_mistakes_are_one_line_that_names_the_place(text: str, options: dict, said: str) -> None:
    with pytest.raises(LiquidError, match=f"the log[,:].*{said}"):
        list(events(text.encode(), 5000, **options))


@pytest.mark.parametrize("text", ["The log, its time\n[1] a, b\n", "2026-01-31 12:00:00,123 on\n"])
def test_plain_lines_with_commas_are_no_table(text: str) -> None:
    assert list(events(text.encode(), 5000))[-1][1].endswith(("a, b", "on"))


def test_a_long_line_of_json_is_one_event() -> None:
    long = "x" * (2 * MAX_CHARACTERS)
    data = f'{{"ts": 1, "msg": "{long}"}}\n  at Main\n{{"ts": 2, "msg": "b"}}\n'.encode()
    for size in (999, 10**6):
        assert list(events(data, size)) == [(1.0, long), (1.0, "\n  at Main"), (2.0, "\nb")]


def test_an_interrupt_within_a_row_loses_none_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = reader(timed=True), reader(timed=True)
    lines = one.push(b'time,text\n1,"a\n') + one.push(b'b"\n2,c\n')
    other.push(b'time,text\n1,"a\n')
    with monkeypatch.context() as patch:
        patch.setattr(other, "_costs", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            other.push(b'b"\n')
    other._cutter = LineCutter()
    assert other.push(b'b"\n2,c\n') == lines[1:]


def test_watch_prints_a_row_as_one_line(watch: Callable, tmp_path: Path) -> None:
    tokenizer = LEDTokenizerWrapper.bytes()
    save_model(tmp_path / "run", tiny(tokenizer, timed=True), tokenizer)
    data = b'moment,what,more\n1,"pump 1\nis on",x\n2,pump 2 is off,x\n'
    named = ("--time-field", "moment", "--text-field", "what")
    code, out, err = watch(tmp_path / "run", *named, stdin=data)
    assert code == 0 and 'CSV, time in "moment" (seconds), text in "what"' in err
    assert [line[17:] for line in out.splitlines()] == [
        "moment,what,more", '1,"pump 1↵is on",x', "2,pump 2 is off,x"
    ]  # fmt: skip
    code, out, _ = watch(tmp_path / "run", "--json", *named, stdin=data)
    assert [json.loads(line)["bytes"] for line in out.splitlines()] == [0, 12, 14]
    assert json.loads(out.splitlines()[1])["text"] == '1,"pump 1\nis on",x'
    code, _, err = watch(tmp_path / "run", "--time-field", "ts", stdin=b"[1] on\n")
    assert code == 2 and "--time-field names a field of JSON or CSV" in err
