"""Surprise of a log's lines: bits, gaps, what is usual."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from logs import TOKENIZERS, reader, tiny

from liquidlm import LEDTokenizerWrapper
from liquidlm.errors import LiquidError
from liquidlm.inference.evaluate import evaluate
from liquidlm.inference.line_cutter import MAX_CHARACTERS, LineCutter, LinePart
from liquidlm.inference.log_lines import UNTIMED
from liquidlm.inference.surprise import Line, SurpriseReader
from liquidlm.text.corpus import read_documents
from liquidlm.text.timeline import LATE
from liquidlm.text.tokenization import tokenize_documents


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
    data = (
        "\ufeffone\n\n" + "é" * (2 * MAX_CHARACTERS) + "\n" + "x" * (MAX_CHARACTERS + 5) + "\r\nlast"
    ).encode()
    step = max(step, len(data) // 3000)
    cutter, pieces = LineCutter(), []
    for at in range(0, len(data), step):
        pieces += cutter.push(data[at : at + step])
    pieces += cutter.push(b"", final=True)
    assert pieces == [
        LinePart("one"),
        LinePart(""),
        LinePart("é" * MAX_CHARACTERS, True, False),
        LinePart("é" * MAX_CHARACTERS, False, True),
        LinePart("x" * MAX_CHARACTERS, True, False),
        LinePart("xxxxx\r", False, True),
        LinePart("last"),
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
    # Late: as the one before. Set back: no gap, and on from there. A mistaken date: the same, back again.
    assert times == [1000, 1100, 1100, 1101, 1101, 1111, 10**7 + 601, 10**7 + 601, 10**7 + 602]


def test_a_log_may_begin_within_an_event_but_must_have_times() -> None:
    lines = read(reader(timed=True), b"  of a trace\n[1] on\n[2] on\n")
    assert [line.time for line in lines] == [None, 1, 2] and lines[0].bits == lines[0].bytes == 0
    with pytest.raises(LiquidError, match="no line begins with one"):
        read(reader(timed=True), b"on\n")
    with pytest.raises(LiquidError, match="no line begins with one"):
        reader(timed=True).push(b"on\n" * (UNTIMED + 1))


def test_a_line_is_late_by_up_to_a_minute_and_no_more() -> None:
    """A minute late: the clock stays. A moment more: it was set back, and goes on from there."""
    for late, ahead in (("00:01:00", 0.0), ("00:00:59.500", 60.5)):
        one = reader(timed=True)
        lines = read(one, f"2026-01-01 00:02:00 a\n2026-01-01 {late} b\n".encode())
        assert lines[1].time == lines[0].time and one.position.timeline.ahead == ahead
