"""Surprise line by line: the sums of `eval`, however lines come; what stands out; memory; restarts."""

import contextlib
import json
import math
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from liquidlm import LEDTokenizerWrapper, LiquidTextGenerationModel
from liquidlm.cli import main as cli
from liquidlm.cli.watch import printer
from liquidlm.errors import LiquidError
from liquidlm.inference.evaluate import evaluate
from liquidlm.inference.saving import load_model, save_model
from liquidlm.inference.state_files import fingerprint
from liquidlm.inference.surprise import (
    LATE,
    LONGEST,
    MEMORY,
    UNTIMED,
    Line,
    LineCutter,
    Piece,
    SurpriseReader,
    Usual,
)
from liquidlm.runtime.files import write_folder
from liquidlm.text.batches import tokenize_documents
from liquidlm.text.corpus import read_documents
from liquidlm.training.loop import train
from liquidlm.training.settings import TrainSettings
from tests.helpers import randomise

SIZES = {"embedding_dim": 16, "latent_dim": 8, "hidden_size": 32, "num_hidden_layers": 2, "ngram_rows": 64}
TOKENIZERS = {
    "bytes": LEDTokenizerWrapper.bytes(),
    "bpe": LEDTokenizerWrapper.train(["the log goes on and on\nthe line is long\n" * 20], 290),
}


def tiny(tokenizer: LEDTokenizerWrapper, timed: bool, **sizes: float) -> LiquidTextGenerationModel:
    clock = {"time_components": 3, "time_scale": 2.5} if timed else {}
    options = {**SIZES, **sizes, **clock}
    torch.manual_seed(0)
    model = LiquidTextGenerationModel(vocab_size=tokenizer.vocab_size, dropout_rate=0.0, **options)
    return randomise(model, scale=0.1).eval()


def reader(timed: bool = False, name: str = "bytes", **options) -> SurpriseReader:
    tokenizer = TOKENIZERS[name]
    return SurpriseReader(tiny(tokenizer, timed), tokenizer, **options)


def read(one: SurpriseReader, data: bytes, step: int | None = None) -> list[Line]:
    step = step or len(data) or 1
    lines = [line for at in range(0, len(data), step) for line in one.push(data[at : at + step])]
    return lines + one.end()


PLAIN = "the log goes on\n\n\nthe línea is long: 🙂 and on\r\n  indented\nthe\tlast"
TIMED = """2026-01-01 00:00:00.250 the log goes on
2026-01-01 00:00:01 the line is long
  and goes on
2026-01-01 00:00:01

after an empty event, which is left out

after another, which is not

2026-01-01 00:10:00,5 and on
2026-01-01 01:00:00
2026-01-01 01:00:03 the last 🙂
"""


# ---- the figures of eval


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("timed", [False, True])
@pytest.mark.parametrize("step", [None, 7, 1])
def test_the_sum_over_a_file_is_that_of_eval(
    tmp_path: Path, name: str, timed: bool, step: int | None
) -> None:
    file = tmp_path / "some.log"
    # A run of empty lines is a token of its own to a BPE that sees it whole: here there is none.
    file.write_text(TIMED if timed else PLAIN if name == "bytes" else PLAIN.replace("\n\n\n", "\n"))
    one = reader(timed, name)
    corpus = tokenize_documents(read_documents(file, timestamps=timed), one.tokenizer)
    judged = evaluate(one.model, corpus, eos_token_id=one.tokenizer.eos_token_id)
    lines = read(one, file.read_bytes(), step)
    assert "\n".join(line.text for line in lines) == file.read_bytes().decode().removesuffix("\n")
    assert sum(line.bits for line in lines) * math.log(2) == pytest.approx(judged.nats, rel=1e-5)
    assert sum(line.bytes for line in lines) == judged.bytes
    if timed:
        assert judged.time_nats is not None
        assert sum(line.when or 0.0 for line in lines) == pytest.approx(judged.time_nats, rel=1e-5)
        assert lines[0].time == 1767225600.25 and lines[-1].time == 1767229203.0
    else:
        assert all(line.when is None and line.gap_bits is None and line.time is None for line in lines)


def test_a_run_of_empty_lines_is_the_same_text_in_other_tokens(tmp_path: Path) -> None:
    """As the docstring of SurpriseReader has it: what `eval` may read as one token is read line by line."""
    tokenizer, file = LEDTokenizerWrapper.train([PLAIN * 20], 290), tmp_path / "some.log"
    one = SurpriseReader(tiny(tokenizer, False), tokenizer)
    file.write_text(PLAIN)
    assert len(tokenizer.encode("on\n\n\nthe")) < len(tokenizer.encode("on")) + 3 + len(
        tokenizer.encode("the")
    )
    corpus = tokenize_documents(read_documents(file), one.tokenizer)
    lines = read(one, file.read_bytes())
    assert sum(line.bytes for line in lines) == corpus.text_bytes
    judged = evaluate(one.model, corpus, eos_token_id=one.tokenizer.eos_token_id)
    assert sum(line.bits for line in lines) * math.log(2) != pytest.approx(judged.nats, rel=1e-5)


def test_a_line_break_is_of_the_line_that_follows_it() -> None:
    """So that at a file's end one token less is counted than eval has, and a line can be said at once."""
    one, other = reader(), reader()
    with_break, without = (read(a, text) for a, text in ((one, b"a\nb\n"), (other, b"a\nb")))
    assert sum(line.bits for line in with_break) == pytest.approx(
        sum(line.bits for line in without), rel=1e-6
    )
    assert [line.bytes for line in read(reader(), b"a\nb\n")] == [1, 2]


def test_bits_are_those_of_the_logits_and_what_is_expected_their_entropy() -> None:
    one = reader()
    ids, _ = one.tokenizer.tokenize("on and on")
    log_p = one.model(ids).logits[0, :-1].log_softmax(-1)
    costs = one._costs(ids[0].numpy(), None)
    entropy = torch.distributions.Categorical(logits=log_p).entropy()
    assert torch.allclose(torch.from_numpy(costs.expected), entropy.double(), atol=1e-4)
    assert costs.nats.sum() == pytest.approx(-log_p.gather(1, ids[0, 1:, None]).sum().item(), rel=1e-5)


def test_how_unlikely_a_gap_is() -> None:
    """The two-sided chance: 2 min(F, 1 − F), of the model's own distribution."""
    one = reader(timed=True)
    ids = torch.tensor([0, 14, 70])
    times = torch.tensor([0.0, 0.0, 40.0], dtype=torch.float64)
    costs = one._costs(ids.numpy(), times.numpy())
    output = one.model(ids[None], timestamps=times[None])
    gap = one.model.next_gap(output.features[0, 1], ids[2])
    below = gap.cdf(torch.tensor(40.0 / 2.5)).item()
    assert costs.tail[1] == pytest.approx(-math.log2(min(1.0, 2 * min(below, 1 - below))), abs=1e-3)
    none = one.model.next_gap(output.features[0, 0], ids[1]).zero.sigmoid().item()
    assert costs.tail[0] == pytest.approx(-math.log2(min(1.0, 2 * none)), abs=1e-3)


def test_how_unlikely_a_recorded_gap_is() -> None:
    """The gap itself counts on both sides, also where float64 has no more the hundredths of a clock."""
    tokenizer = TOKENIZERS["bytes"]
    model = tiny(tokenizer, timed=True, time_resolution=0.01)
    ids, begin = np.array([0, 14, 70]), 1.7e9
    for hundredths in range(1, 30):
        gap = hundredths / 100
        costs = SurpriseReader(model, tokenizer)._costs(ids, np.array([begin, begin, begin + gap]))
        exact = SurpriseReader(model, tokenizer)._costs(ids, np.array([0.0, 0.0, gap]))
        assert costs.tail[1] == pytest.approx(exact.tail[1], abs=1e-3)


# ---- lines as they come


@pytest.mark.parametrize("step", [1, 3, 5000, 10**9])
def test_lines_are_the_same_however_bytes_are_divided(step: int) -> None:
    data = ("\ufeffone\n\n" + "é" * (2 * LONGEST) + "\n" + "x" * (LONGEST + 5) + "\r\nlast").encode()
    step = max(step, len(data) // 3000)
    cutter, pieces = LineCutter(), []
    for at in range(0, len(data), step):
        pieces += cutter.push(data[at : at + step])
    pieces += cutter.push(b"", final=True)
    assert pieces == [
        Piece("one"),
        Piece(""),
        Piece("é" * LONGEST, True, False),
        Piece("é" * LONGEST, False, True),
        Piece("x" * LONGEST, True, False),
        Piece("xxxxx\r", False, True),
        Piece("last"),
    ]


def test_a_line_is_said_as_soon_as_it_ends() -> None:
    one = reader()
    assert [line.text for line in one.push(b"one\ntw")] == ["one"]
    assert one.push(b"o") == []
    assert [line.text for line in one.push(b"\nthree")] == ["two"]
    assert [line.text for line in one.end()] == ["three"]
    assert one.end() == []


def test_what_is_no_utf8_is_replaced() -> None:
    lines = read(reader(), b"fine\n\xff\xfe bad \xc3\nnul \x00 too\n\xe2\x82")
    assert [line.text for line in lines] == ["fine", "\ufffd\ufffd bad \ufffd", "nul \x00 too", "\ufffd"]
    assert all(math.isfinite(line.bits) for line in lines)


@pytest.mark.parametrize("timed", [False, True])
def test_nothing_and_empty_lines(timed: bool) -> None:
    assert read(reader(timed), b"") == []
    lines = read(reader(timed), b"\n\n")
    assert [line.text for line in lines] == ["", ""]
    assert [line.bytes for line in lines] == ([0, 0] if timed else [0, 1])


# ---- times


def test_a_time_that_goes_back_is_late_or_of_another_clock() -> None:
    back = int(LATE) // 2
    seconds = [1000, 1100, 1100 - back, 1101, 500, 510, 10**7, 520, 521]
    text = "".join(f"[{at}] on\n" for at in seconds)
    times = [line.time for line in read(reader(timed=True), text.encode())]
    # Late: as the one before. Set anew: no gap, and on from there. A mistaken date: the same, back again.
    assert times == [1000, 1100, 1100, 1101, 1101, 1111, 10**7 + 601, 10**7 + 601, 10**7 + 602]


def test_a_log_may_begin_within_an_event_but_must_have_times() -> None:
    lines = read(reader(timed=True), b"  of a trace\n[1] on\n[2] on\n")
    assert [line.time for line in lines] == [None, 1, 2] and lines[0].bits == lines[0].bytes == 0
    with pytest.raises(LiquidError, match="no line begins with one"):
        read(reader(timed=True), b"on\n")
    with pytest.raises(LiquidError, match="no line begins with one"):
        reader(timed=True).push(b"on\n" * (UNTIMED + 1))


# ---- what stands out


def test_what_is_usual_is_mean_and_variance_and_slowly_forgotten() -> None:
    torch.manual_seed(1)
    usual, scores = Usual(), (3 + 2 * torch.randn(3000)).tolist()
    assert not any(usual.exceeded(score, 6.0) for score in scores)
    assert usual.mean == pytest.approx(3, abs=0.2) and usual.variance == pytest.approx(4, abs=0.4)
    assert usual.exceeded(16.0, 6.0) and not usual.exceeded(14.0, 6.0)
    assert not any(Usual().exceeded(score, 6.0) for score in (0.0, 1e9))  # nothing is usual yet
    before = usual.mean
    assert all(usual.exceeded(1e6, 6.0) for _ in range(20)) and usual.mean < before + 1  # no habit of it


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


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, as_users_run):
    """`liquidlm watch` in this process, on a file as standard input: exit code, output, errors."""

    def command(*words: object, stdin: bytes) -> tuple[int, str, str]:
        (tmp_path / "stdin").write_bytes(stdin)
        capsys.readouterr()
        with (tmp_path / "stdin").open() as source, monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", source)
            patch.setattr(sys, "argv", ["liquidlm", "watch", *map(str, words)])
            try:
                cli.main()
                code = 0
            except SystemExit as stop:
                code = int(stop.code or 0)
        return code, *capsys.readouterr()

    return command


def test_what_was_planted_is_marked(watch, trained: Path) -> None:
    lines = EVERY.splitlines()[:200]
    for at, line in PLANTED.items():
        lines[at] = line
    data = "\n".join(lines).encode()
    code, out, err = watch(trained, stdin=data)
    assert code == 0 and "200 lines, " in err and "MiB peak memory" in err
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
        assert one["score"] == max(0.0, one["excess"], one["gap_bits"])
    assert objects[170]["time"] == 1703 and objects[170]["gap_bits"] > objects[169]["gap_bits"] + 3
    assert [f"{one['bits']:8.1f}" for one in objects] == [line[:8] for line in said]


def test_colours_and_no_control_characters_on_a_terminal(capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    line = Line("a \x1b[2J [b]", None, 7.25, 3, None, 9.0, None, 9.0, True)
    printer(only_marked=False, as_json=False)([line, line._replace(stands_out=False)])
    marked, plain = capsys.readouterr().out.splitlines()
    assert "7.2 ▲ a �[2J [b]" in marked and marked.startswith("\x1b[1;31m")
    assert plain == "     7.2   a �[2J [b]"


def test_two_halves_with_a_state_are_the_whole(watch, trained: Path, tmp_path: Path) -> None:
    lines = EVERY.splitlines(keepends=True)[:300]
    lines[120:120] = ["  of a trace\n", "\n", "  still of it\n", "[90] a clock set anew\n", "[95] and on\n"]
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
        assert code == 0, err
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

    monkeypatch.setattr("liquidlm.cli.watch.printer", interrupted)
    state = tmp_path / "log.state"
    data = EVERY.encode() * 2
    code, _, err = watch(trained, "--state", state, stdin=data)
    assert code == 0 and "lines/s" in err
    model, tokenizer = load_model(trained)
    again = SurpriseReader.load(state, model, tokenizer)
    assert 0 < len(shown) < 2400 and again.place.time == shown[-1].time
    assert again.usual.lines == sum(line.bytes > 0 for line in shown)


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
    assert one.place == other.place and one.usual == other.usual
    assert one.state.get_seq_length() == other.state.get_seq_length()


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
        (("--threshold", 0), "threshold must be over 0"),
    ):
        code, out, err = watch(trained, *options, stdin=data)
        assert code == 2 and said in err and err.count("\n") == 1 and not out
    state.write_bytes(state.read_bytes()[:-100])
    assert "no readable liquid state" in watch(trained, "--state", state, stdin=data)[2]
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
    """1 MB and 4 MB, much of it a line without an end; then whoever reads the lines goes away."""
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
            for _ in range(sum(-(-len(one) // LONGEST) for one in data.splitlines())):
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


def test_what_is_usual_forgets_over_so_many_lines() -> None:
    usual = Usual(lines=10 * MEMORY, mean=0.0, variance=1.0)
    usual.exceeded(1.0, 6.0)
    assert usual.mean == 1 / MEMORY and usual.variance == (1 - 1 / MEMORY) * (1 + 1 / MEMORY)


def test_a_line_is_late_by_up_to_a_minute_and_no_more() -> None:
    """A minute late: the clock stays. A moment more: it was set anew, and goes on from there."""
    for late, ahead in (("00:01:00", 0.0), ("00:00:59.500", 60.5)):
        one = reader(timed=True)
        lines = read(one, f"2026-01-01 00:02:00 a\n2026-01-01 {late} b\n".encode())
        assert lines[1].time == lines[0].time and one.place.ahead == ahead
