"""`liquidlm watch`: marks, states, interrupts, memory."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from logs import SIZES, reader, tiny

from liquidlm import LEDTokenizerWrapper
from liquidlm.cli.watch_lines import printer
from liquidlm.cli.watch_summary import Summary
from liquidlm.inference.line_cutter import MAX_CHARACTERS, LinePart
from liquidlm.inference.log_lines import LogPosition
from liquidlm.inference.rarity import Verdict
from liquidlm.inference.saving import load_model, save_model
from liquidlm.inference.state_files import fingerprint
from liquidlm.inference.surprise import Line, SurpriseReader
from liquidlm.runtime.folders import write_folder
from liquidlm.training.loop import train
from liquidlm.training.settings import TrainSettings

# ---- on the command line


EVERY = "".join(f"[{10 * i}] pump {i % 3} is {'on' if i % 2 else 'off'}\n" for i in range(1200))
PLANTED = {150: "[1500] pump 0 is broken", 170: "[1703] pump 2 is off"}
"""What was never said; and what was, but 3 s late."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of a log, with times, trained for seconds."""
    root = tmp_path_factory.mktemp("watched")
    (root / "pumps.log").write_text(EVERY)
    given = {"tokenizer": "bpe:280", "context": 64, "batch_size": 8, "bf16": False, "timestamps": True}
    settings = TrainSettings(paths=[str(root / "pumps.log")], steps=40, lr=0.04, sizes={**SIZES}, **given)  # type: ignore
    train(settings, root / "run")
    return root / "run"


def test_training_takes_the_clock_from_the_text(trained: Path) -> None:
    """Lines every 10 s: the unit, thirty of it for the memories, and its steps of a second."""
    config = load_model(trained)[0].config
    assert (config.time_scale, config.memory_scale, config.time_resolution) == (10.0, 300.0, 1.0)


def test_what_was_planted_is_marked(watch, trained: Path) -> None:
    lines = EVERY.splitlines()[:200]
    for at, line in PLANTED.items():
        lines[at] = line
    data = "\n".join(lines).encode()
    code, out, err = watch(trained, stdin=data)
    assert code == 1 and "200 lines, " in err and "MiB peak memory" in err
    said = out.splitlines()
    assert [line.endswith(f" {text}") for line, text in zip(said, lines, strict=True)] == [True] * 200
    marks = [at for at, line in enumerate(said) if "▲" in line]
    assert set(PLANTED) <= set(marks) and len(marks) <= 6, marks
    only = watch(trained, "--only-marked", stdin=data)[1].splitlines()
    assert only == [said[at] for at in marks]
    objects = [json.loads(line) for line in watch(trained, "--json", stdin=data)[1].splitlines()]
    assert [one["text"] for one in objects] == lines
    assert [at for at, one in enumerate(objects) if one["stands_out"]] == marks
    for one in objects:  # as docs/time.md has it
        assert one["score"] >= 0 and (one["reason"] or not one["stands_out"]) and "#" in one["kind"]
    assert objects[170]["time"] == 1703 and objects[170]["gap_bits"] > objects[169]["gap_bits"] + 3
    assert [f"{one['bits']:8.1f}" for one in objects] == [line[:8] for line in said]


def test_colours_and_no_control_characters_on_a_terminal(capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    line = Line("a \x1b[2J [b]", None, 7.25, 3, None, 9.0, None, 9.0, "burst", "a", True)
    printer(only_marked=False, as_json=False)([line, line._replace(stands_out=False)])
    marked, plain = capsys.readouterr().out.splitlines()
    assert "7.2 ▲ [burst] a �[2J [b]" in marked and marked.startswith("\x1b[1;31m")
    assert plain == "     7.2   a �[2J [b]"


def test_two_halves_with_a_state_are_the_whole(watch, trained: Path, tmp_path: Path) -> None:
    lines = EVERY.splitlines(keepends=True)[:300]
    lines[120:120] = ["  of a trace\n", "\n", "  still of it\n", "[90] a clock set back\n", "[95] and on\n"]
    whole = [
        json.loads(line) for line in watch(trained, "--json", stdin="".join(lines).encode())[1].splitlines()
    ]
    halves, state = [], tmp_path / "log.state"
    for part in (
        lines[:122],
        lines[122:124],
        [],
        lines[124:],
    ):  # within an event, after another clock, nothing
        code, out, err = watch(trained, "--json", "--state", state, stdin="".join(part).encode())
        assert code in (0, 1), err
        halves += [json.loads(line) for line in out.splitlines()]
    assert [one["text"] for one in halves] == [one["text"] for one in whole]
    for name in ("time", "bytes", "stands_out"):
        assert [one[name] for one in halves] == [one[name] for one in whole]
    for name in ("bits", "when", "gap_bits", "score"):
        assert [one[name] for one in halves] == pytest.approx([one[name] for one in whole], abs=2e-3)


def test_an_interrupt_saves_the_state(watch, trained: Path, tmp_path: Path, monkeypatch) -> None:
    shown = []

    def interrupted(*_):
        def show(lines: list[Line]) -> None:
            if not shown:
                os.kill(os.getpid(), signal.SIGINT)
            shown.extend(lines)

        return show

    monkeypatch.setattr("liquidlm.cli.watch_lines.printer", interrupted)
    state = tmp_path / "log.state"
    data = EVERY.encode() * 2
    code, _, err = watch(trained, "--state", state, stdin=data)
    assert code == 0 and "lines/s" in err
    model, tokenizer = load_model(trained)
    again = SurpriseReader.load(state, model, tokenizer)
    assert 0 < len(shown) < 2400 and again.position.time == shown[-1].time
    assert again.rarity.lines == sum(line.bytes > 0 for line in shown)


def test_an_interrupt_within_a_line_moves_neither_place_nor_state(monkeypatch) -> None:
    """A second Ctrl-C, when the line's tokens are read into the state."""
    one, other = reader(), reader()
    one.push(b"first\n")

    def interrupted(*given) -> None:
        SurpriseReader._costs(one, *given)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(one, "_costs", interrupted)
        with pytest.raises(KeyboardInterrupt):
            one.push(b"second\n")
    other.push(b"first\n")
    assert one.push(b"third\n") == other.push(b"third\n")
    assert one.position == other.position and one.rarity.as_dict() == other.rarity.as_dict()
    assert one.state.get_seq_length() == other.state.get_seq_length()


def test_an_interrupt_between_two_lines_counts_neither(monkeypatch) -> None:
    """When one line of a push was judged, and the next was not."""
    one, other = reader(), reader()
    for each in (one, other):
        each.push(b"first\n" * 3)
    judged = []

    def interrupted(*given):
        if judged:
            raise KeyboardInterrupt
        judged.append(SurpriseReader._line(one, *given))
        return judged[0]

    with monkeypatch.context() as patch:
        patch.setattr(one, "_line", interrupted)
        with pytest.raises(KeyboardInterrupt):
            one.push(b"second 2\nthird 3\n")
    assert judged and one.rarity.as_dict() == other.rarity.as_dict()
    assert one.rarity.alarms == other.rarity.alarms and one.position == other.position
    assert one.push(b"second 2\n") == other.push(b"second 2\n")


def test_mistakes_are_one_line(watch, trained: Path, tmp_path: Path) -> None:
    state, data = tmp_path / "log.state", EVERY[:200].encode()
    model, tokenizer = load_model(trained)
    with torch.no_grad():
        next(model.parameters()).add_(1)
    other = SurpriseReader(model, tokenizer)
    other.push(data)
    other.save(state)
    for options, said in (
        (("--state", state), "the state of another model"),
        (("--state", tmp_path / "none" / "log.state"), "cannot write"),
        (("--alarms", 0), "alarms must be greater than 0"),
        (("--baseline", tmp_path / "none.log"), "cannot read the baseline"),
    ):
        code, out, err = watch(trained, *options, stdin=data)
        assert code == 2 and said in err and err.count("\n") == 1 and not out
    state.write_bytes(state.read_bytes()[:-100])
    assert "not a readable liquid state" in watch(trained, "--state", state, stdin=data)[2]
    model, tokenizer = load_model(trained)
    reader = SurpriseReader(model, tokenizer)
    reader.push(data)
    reader.state.save(state, model=fingerprint(model))
    assert "neither `generate --save-state` nor" in watch(trained, "--state", state, stdin=data)[2]
    code, out, err = watch(trained, stdin=b"no time\n")
    assert code == 2 and "no line begins with one" in err and not state.with_name("none").exists()


def resident(process: int) -> int:
    return int(re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())[1]) * 1024  # type: ignore


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_the_same_after_much_as_after_little_and_a_closed_pipe_is_quiet(tmp_path: Path) -> None:
    """1 MB and 4 MB, much of it a line without an end; then the reader of the lines goes away."""
    words = [f"{'abcdefghij'[i] * 60}" for i in range(10)]
    tokenizer = LEDTokenizerWrapper.train([" ".join(words) + "\n"] * 2, 900)
    write_folder(
        tmp_path / "model", lambda part: save_model(part, tiny(tokenizer, False, hidden_size=8), tokenizer)
    )
    line = " ".join([*words, *words]) + "\n"
    command = [sys.executable, "-m", "liquidlm", "watch", "model", "--state", "log.state"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as child:
        assert child.stdin is not None and child.stdout is not None and child.stderr is not None

        def feed(data: str) -> int:
            """The memory after the last line of `data` has come back."""
            writing = threading.Thread(target=lambda: (child.stdin.write(data.encode()), child.stdin.flush()))
            writing.start()
            for _ in range(sum(-(-len(one) // MAX_CHARACTERS) for one in data.splitlines())):
                assert child.stdout.readline()
            writing.join()
            return resident(child.pid)

        endless = "".join(words)
        feed(line * (700_000 // len(line)))
        little = feed(endless * 500 + "\n")  # 1 MB
        feed(line * (2_000_000 // len(line)))
        much = feed(endless * 2000 + "\n")
        assert much - little < 5e6, (little, much)
        child.stdout.close()
        with contextlib.suppress(BrokenPipeError):
            for _ in range(100):
                child.stdin.write(line.encode() * 20)
                child.stdin.flush()
        assert child.wait(60) == 141  # as a program that SIGPIPE has ended
        assert child.stderr.read() == b""
    assert (tmp_path / "log.state").exists()


# ---- times


def times_of(out: str) -> list[float | None]:
    return [json.loads(line)["time"] for line in out.splitlines()]


def test_late_lines_are_counted_and_said_once(watch, trained: Path) -> None:
    data = b"[100] a\n[105] b\n[104] c\n[103] d\n[9] e\n[10] f\n"
    code, out, err = watch(trained, "--json", stdin=data)
    assert code == 0 and times_of(out) == [100, 105, 105, 105, 105, 106]
    assert err.count("2 late lines, the first is line 3: taken at the time of the line before") == 1
    assert err.count("the clock was set back once, in line 5") == 1
    code, out, err = watch(trained, "--json", "--late", "error", stdin=data)
    assert code == 2 and "the log, line 3: the time goes back, from 105 to 104 s" in err
    code, out, err = watch(trained, "--json", "--late", "sort", stdin=data)
    assert code == 2 and "--late sort needs a whole file" in err and not out


def test_the_numbers_of_lines_go_on_with_the_state(watch, trained: Path, tmp_path: Path) -> None:
    state = tmp_path / "log.state"
    assert watch(trained, "--state", state, stdin=b"[1] a\n[2] b\n")[0] == 0
    code, out, err = watch(trained, "--json", "--state", state, stdin=b"[3] c\n[2] d\n")
    assert code == 0 and times_of(out) == [3, 3] and "1 late line, line 4" in err


def test_lines_of_json_have_their_time_and_text(watch, trained: Path, tmp_path: Path) -> None:
    state, record = tmp_path / "log.state", '{{"ts": {}, "msg": "pump {} is on"}}\n'
    first, second = record.format(1769860800123, 1), record.format(1769860802123, 2) + "  of a trace\n"
    code, out, err = watch(trained, "--json", "--state", state, stdin=first.encode())
    assert code == 0 and times_of(out) == [1769860800.123]
    assert 'JSON, time in "ts" (milliseconds since 1970), text in "msg"' in err
    code, out, _ = watch(trained, "--json", "--state", state, stdin=second.encode())
    assert code == 0 and times_of(out) == pytest.approx([1769860802.123] * 2)
    assert json.loads(out.splitlines()[0])["bytes"] == len("\npump 2 is on")
    code, _, err = watch(trained, stdin=first.encode() + b'{"msg": "b"}\n')
    assert code == 2 and "the log, line 2: " in err and 'there is no "ts", only msg' in err
    code, out, _ = watch(trained, "--json", "--text-field", "ts", "--state", state, stdin=first.encode())
    assert code == 0 and json.loads(out)["bytes"] == len("\n1769860800123")


def test_earlier_names_of_the_timeline_are_read() -> None:
    kept = LogPosition(3).as_dict()
    timeline = {"time": 9.0, "ahead": 2.0, "late": 1, "first_late": 4, "anew": 2, "first_anew": 6}
    found = LogPosition.restore({**kept, "timeline": timeline}).timeline
    assert (found.late, found.first_late, found.set_back, found.first_set_back) == (1, 4, 2, 6)


def test_a_state_of_before_is_read() -> None:
    place = {"pending": 3, "time": 9.0, "begun": True, "kind": 7, "ahead": 2.0, "empty": False, "blank": 1}
    found = LogPosition.restore({**place, "untimed": 0})
    assert (found.time, found.timeline.ahead, found.begun, found.blank, found.finder) == (
        9.0,
        2.0,
        True,
        1,
        None,
    )
    found.records([LinePart("[8] on")])
    assert found.put(LinePart("[8] on"), timed=True) == "\non" and found.time == 10.0


@pytest.mark.parametrize(("silences", "said"), [(1, "0 lines, 1 alarm\n"), (2, "0 lines, 2 alarms\n")])
def test_a_summary_counts_in_the_singular_and_the_plural(capsys, silences: int, said: str) -> None:
    summary = Summary(as_json=False)
    for _ in range(silences):
        summary.silence(Verdict(9.0, "silence", "beat", True))
    summary.end()
    assert said in capsys.readouterr().err
