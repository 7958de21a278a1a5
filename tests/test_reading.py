"""Options of reading a file."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from logs import SIZES
from typer.testing import CliRunner

from liquidlm.cli.main import app
from liquidlm.errors import LiquidError
from liquidlm.inference.checkpoints import checkpoints
from liquidlm.inference.reading_file import kept_reading
from liquidlm.text.clock.line_clock import LineClock
from liquidlm.text.clock.options import ClockOptions
from liquidlm.text.corpus import read_documents
from liquidlm.text.reading import ReadingOptions
from liquidlm.text.stream_events import settle_finder
from liquidlm.training.loop import train
from liquidlm.training.settings import TrainSettings
from liquidlm.training.trainer_state import TrainerState


def test_the_options_go_into_a_file_and_out_of_it() -> None:
    assert ReadingOptions().given() == {}
    options = ReadingOptions.of(time_zone="+01:00", year=2026, late="sort", text_field="a.b")
    assert options.clock.year == 2026 and options.clock.time_format is None
    kept = json.loads(json.dumps(options.given()))
    assert kept == {"time_zone": "+01:00", "year": 2026, "late": "sort", "text_field": "a.b"}
    assert ReadingOptions.of(**kept) == options


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"late": "drop"}, "--late must be clamp, error or sort, not drop"),
        ({"errors": "ignore"}, "--errors must be strict or replace, not ignore"),
        ({"encoding": "latin-99"}, "--encoding latin-99 is not known"),
        ({"encoding": "base64"}, "--encoding base64 is not known"),
        ({"encoding": ""}, "--encoding  is not known"),
    ],
)
def test_an_unknown_name_is_one_clear_error(given: dict[str, str], said: str) -> None:
    with pytest.raises(LiquidError, match=said):
        ReadingOptions.of(**given)


# ---- options of a run

TEXT = {"text_field": "what", "late": "sort"}


def call(*words: str, code: int = 0) -> tuple[str, str]:
    result = CliRunner().invoke(app, list(words))
    if code:
        assert isinstance(result.exception, LiquidError)
        return result.stdout, str(result.exception)
    assert result.exit_code == 0, result.output
    return result.stdout, result.stderr


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records whose text has an unusual name; one is late."""
    file = tmp_path_factory.mktemp("log") / "app.jsonl"
    seconds = [*range(0, 600, 3), 590]
    file.write_text("\n".join(json.dumps({"ts": s, "what": f"event {s % 7}"}) for s in seconds))
    return file


@pytest.fixture(scope="module")
def run(log: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "run"
    given = {"context": 32, "batch_size": 2, "bf16": False, "timestamps": True, "sizes": {**SIZES}}
    train(TrainSettings(paths=[str(log)], steps=4, **given, **TEXT), folder)  # type: ignore
    return folder


def test_a_run_and_its_model_keep_the_options(run: Path) -> None:
    settings = TrainerState.read(checkpoints(run)[0]).settings
    assert settings.reading == ReadingOptions.of(**TEXT)
    assert kept_reading(run) == kept_reading(checkpoints(run)[0]) == TEXT


def test_eval_reads_as_the_model_was_trained(run: Path, log: Path, as_users_run) -> None:
    out, err = call("eval", str(run), str(log), "--json")
    assert json.loads(out)["events"] == 201
    assert "1 late line, line 201: sorted" in err and 'text in "what"' in err
    (document,) = read_documents(log, timestamps=True, options=ReadingOptions.of(**TEXT))
    assert json.loads(out)["bytes"] == len(document.text.encode())
    assert "line 201: the time goes back" in call("eval", str(run), str(log), "--late", "error", code=2)[1]


def test_resume_takes_no_other_options(run: Path, as_users_run) -> None:
    said = call("train", "--out", str(run), "--resume", "--late", "clamp", code=2)[1]
    assert "--resume continues with the settings of the run: leave --late out" in said


def test_train_says_once_what_was_found(log: Path, tmp_path: Path, as_users_run) -> None:
    words = [
        "--timestamps",
        "--out",
        str(tmp_path / "run"),
        "--steps",
        "1",
        "--context",
        "32",
        "--batch",
        "2",
    ]
    sizes = [word for name, value in SIZES.items() for word in _option(name, value)]
    err = call("train", str(log), *words, *sizes, "--text-field", "what")[1].replace("\n", " ")
    assert err.count("1 late line, line 201: taken at the time of the line before") == 1
    assert err.count('app.jsonl: JSON, time in "ts" (seconds)') == 1


def _option(name: str, value: object) -> list[str]:
    options = {"hidden_size", "embedding_dim", "latent_dim"}
    names = {"num_hidden_layers": "--layers", **{each: "--" + each.replace("_", "-") for each in options}}
    return [names[name], str(value)] if name in names else []


def test_checkpoints_of_before_are_read(run: Path, tmp_path: Path) -> None:
    state = json.loads((checkpoints(run)[0] / "run.json").read_text())
    for name in (
        "time_format",
        "time_zone",
        "year",
        "time_field",
        "text_field",
        "late",
        "encoding",
        "errors",
    ):
        del state["settings"][name]
    (tmp_path / "run.json").write_text(json.dumps(state))
    assert TrainerState.read(tmp_path).settings.reading == ReadingOptions()


def test_text_of_another_field_without_times(log: Path) -> None:
    documents = list(read_documents(log, options=ReadingOptions(text_field="what")))
    assert [document.text for document in documents[:2]] == ["event 0", "event 3"]
    with pytest.raises(LiquidError, match=r"--text-field names another"):
        list(read_documents(log))


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "utf-16-le"])
@pytest.mark.parametrize(
    ("name", "timed"), [("a.log", True), ("a.txt", False), ("a.jsonl", True), ("a.jsonl", False)]
)
def test_bytes_in_another_encoding(tmp_path: Path, encoding: str, name: str, timed: bool) -> None:
    record = json.dumps({"time": 1, "text": "aña"}, ensure_ascii=False)
    text = record if name == "a.jsonl" else "[1] aña" if timed else "aña"
    (tmp_path / name).write_bytes(text.encode(encoding))
    options = ReadingOptions(encoding=encoding)
    (document,) = read_documents(tmp_path / name, timestamps=timed, options=options)
    assert document.text == "aña"


def test_wrong_bytes_are_an_error_or_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"a\xf1a")
    with pytest.raises(LiquidError, match=r"0xf1 at byte 1; .* --encoding, or --errors replace"):
        list(read_documents(tmp_path / "a.txt"))
    with pytest.raises(LiquidError, match="not ascii text: 0xf1 at byte 1; give another --encoding"):
        list(read_documents(tmp_path / "a.txt", options=ReadingOptions(encoding="ascii")))
    (document,) = read_documents(tmp_path / "a.txt", options=ReadingOptions(errors="replace"))
    assert document.text == "a\ufffda"


TIMED = "2026-01-31 12:00:00 on\n2026-01-31 12:00:01 off\n"
SUBTITLES = "1\n00:00:01,000 --> 00:00:02,000\non\n"


@pytest.mark.parametrize(
    ("name", "text", "timed", "given", "said"),
    [
        ("a.log", TIMED, True, {"time_field": "ts"}, "a.log: --time-field names a field of JSON or CSV"),
        ("a.log", TIMED, True, {"text_field": "msg"}, "a.log: --text-field names a field of JSON or CSV"),
        ("a.srt", SUBTITLES, True, {"text_field": "msg"}, "this is a file of subtitles"),
        ("a.srt", SUBTITLES, True, {"time_format": "%H.%M.%S"}, "leave --time-format out"),
        ("a.txt", "on and off", False, {"text_field": "msg"}, "this is plain text"),
    ],
)
def test_an_option_that_would_be_ignored_is_an_error(
    tmp_path: Path, name: str, text: str, timed: bool, given: dict[str, str], said: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(LiquidError, match=said):
        list(read_documents(tmp_path / name, timestamps=timed, options=ReadingOptions.of(**given)))


def test_the_fields_of_a_model_do_not_matter_where_there_are_none(tmp_path: Path) -> None:
    options = ReadingOptions(time_field="ts", text_field="msg", fields_of_model=True)
    (tmp_path / "a.log").write_text(TIMED)
    (document,) = read_documents(tmp_path / "a.log", timestamps=True, options=options)
    assert document.text == "on\noff"
    (tmp_path / "a.txt").write_text("on and off")
    (document,) = read_documents(tmp_path / "a.txt", options=options)
    assert document.text == "on and off"
    assert options == ReadingOptions.of(**options.given())


def test_a_data_set_has_no_encoding_and_no_fields() -> None:
    for given in ({"encoding": "latin-1"}, {"text_field": "msg"}):
        with pytest.raises(LiquidError, match="a data set"):
            list(read_documents("hf:no/thing", options=ReadingOptions.of(**given)))


@pytest.mark.parametrize(("field", "said"), [("time_field", "--time-field"), ("text_field", "--text-field")])
def test_a_stream_of_plain_lines_has_no_fields(field: str, said: str) -> None:
    with pytest.raises(LiquidError, match=f"the log: {said} names a field"):
        settle_finder(TIMED.splitlines(), ReadingOptions.of(**{field: "ts"}), "the log")


@pytest.mark.parametrize(("year", "meant"), [("69", 1969), ("99", 1999), ("00", 2000), ("68", 2068)])
def test_years_of_two_digits_are_those_of_strptime(year: str, meant: int) -> None:
    lines = [f"31.12.{year} 12:00:00 on"]
    stamp = LineClock.settle(lines, ClockOptions(), "a.log").find(lines[0])
    assert stamp is not None and stamp.time == datetime(meant, 12, 31, 12, tzinfo=UTC).timestamp()
