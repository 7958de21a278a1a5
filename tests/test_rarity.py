"""What stands out in a log: kinds of lines, chances, rhythms, and a whole log with what is planted in it."""

import json
import random
from collections.abc import Iterator

import pytest

from liquidlm.inference.rarity import WARM_UP, Features, Rarity, Verdict
from liquidlm.inference.rhythms import ANY, Rhythms
from liquidlm.inference.tails import Calibration, Tail
from liquidlm.inference.templates import numbers, template

# ---- chances


def test_the_chance_in_a_tail_is_that_of_the_values() -> None:
    draw = random.Random(1)
    tail = Tail(4000, 1e-3, (draw.expovariate(1.0) for _ in range(4000)))
    for value, chance in ((0.7, 0.4966), (3.0, 0.0498), (9.0, 1.2e-4)):
        assert tail.above(value) == pytest.approx(chance, rel=0.3)
    assert tail.above(tail.beyond(1e-3)) == pytest.approx(1e-3)
    small = Tail(4000, 1e-3, (-value for value in tail.values))
    assert small.below(-9.0) == pytest.approx(tail.above(9.0))


def test_a_tail_forgets_and_outliers_do_not_become_usual() -> None:
    tail = Tail(50, 0.1, map(float, range(50)))
    tail.add(1e9)
    assert len(tail) == 50 and max(tail.values) < 100 and 0.0 not in tail.values
    assert Tail(50, 0.1, [1.0] * 5).above(1e9) > 0.1  # of five values, nothing is known beyond


def test_alarms_come_as_often_as_their_chance_says() -> None:
    draw, usual, alarms = random.Random(2), Calibration(), 0
    for _ in range(20_000):
        score = draw.expovariate(0.5) if draw.random() < 0.3 else 0.0  # wider than what is taken at first
        alarms += usual.chance(score) < 1e-3
        usual.add(score, 1e-3)
    assert 8 <= alarms <= 40
    assert usual.chance(0.0) == 1.0


# ---- lines


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("\nGET /a/17?q=x 200", "GET /a/#?q=x #"),
        ("from 10.0.0.1 sdb1", "from #.#.#.# #"),
        ("cpu=3%", "cpu=#%"),
        ("", ""),
    ],
)
def test_kinds(line: str, kind: str) -> None:
    assert template(line) == kind


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("200 12ms", [(200, False), (12, True)]),
        ("took=1.5 n 3", [(1.5, True), (3, False)]),
        ("10.0.0.1 v1.2.3 worker-2", [(2, False)]),
        ("9" * 5000, []),
    ],
)
def test_numbers(line: str, found: list[tuple[float, bool]]) -> None:
    assert [tuple(one) for one in numbers(line)] == found


# ---- rhythms


def test_what_should_have_come_is_said_once() -> None:
    draw, rhythms = random.Random(3), Rhythms()
    for beat in range(100):
        assert rhythms.overdue(10.0 * beat) is None
        rhythms.come("beat", 10 * beat + draw.gauss(0, 0.05))
    assert rhythms.overdue(999.0) is None
    late = rhythms.overdue(1003.0)
    assert late is not None and late.kind == "beat" and late.chance < 1e-4 and 9.9 < late.usual < 10.1
    again = Rhythms(**json.loads(json.dumps(rhythms.as_dict())))
    assert rhythms.overdue(1003.01) is None
    assert rhythms.come("beat", 2000.0) == again.come("beat", 2000.0) > 0.9
    assert rhythms.come("beat", 2003.0) < 0.01 and rhythms.as_dict()["rhythms"][0][0] != ANY


@pytest.mark.parametrize("begin", [0.0, 1_767_225_600.0])
def test_a_beat_is_known_although_one_in_six_is_left_out_or_early(begin: float) -> None:
    """Also by the clock of the world: a deadline there is not late by seconds."""
    draw, rhythms, time = random.Random(3), Rhythms(), begin
    for beat in range(100):
        time += {5: 20.0, 11: 4.0}.get(beat % 12, 10.0) + draw.gauss(0, 0.05)
        while rhythms.overdue(time) is not None:
            pass
        rhythms.come("beat", time)
    assert rhythms.overdue(time + 10.05) is None
    late = rhythms.overdue(time + 10.4)
    assert late is not None and late.kind == "beat" and late.chance < 1e-3
    assert rhythms.come("beat", time + 9.0) < 1e-3


def test_gaps_without_a_beat_are_judged_by_those_that_were() -> None:
    draw, rhythms, time = random.Random(3), Rhythms(), 0.0
    for _ in range(200):
        time += draw.expovariate(0.1)
        rhythms.overdue(time)
        rhythms.come("request", time)
    assert 0.01 < rhythms.come("request", time + 1.0) < 0.3
    assert rhythms.overdue(time + 25.0) is None and rhythms.overdue(time + 200.0) is not None


def test_memory_is_bounded() -> None:
    rarity = Rarity()
    for at in range(3000):
        word = "".join(chr(97 + at // 26**place % 26) for place in range(4))
        rarity.judge(f"{word} {at}", float(at), Features(9.0, 1.0, 0.5, 0.5))
    assert len(json.dumps(rarity.as_dict())) < 400_000


# ---- a whole log


def log(lines: int, seed: int, planted: dict[int, str]) -> Iterator[tuple[float, str, Features]]:
    """Requests, and a heartbeat every 30 s: time, text, and what a model would find that knows it all."""
    draw, time, beat = random.Random(seed), 0.0, 30.0
    for at in range(lines):
        kind = planted.get(at, "")
        gap = draw.uniform(0.001, 0.003) if kind == "burst" else draw.expovariate(1.0)
        early, late = max(gap / (1 + gap), 1e-6), max(2.718**-gap, 1e-6)
        time += 240.0 if kind == "silence" else gap
        if kind == "silence":
            late, beat = 1e-6, time + 30
        text, bits = f"GET /items/{draw.randrange(900)} took {draw.randrange(4, 60)}ms", draw.gauss(30, 5)
        if kind == "new kind of line":
            text, bits = "FATAL out of memory", 400.0
        elif kind == "slow":
            text = "GET /items/4 took 30417ms"
        elif not kind and time > beat:
            text, beat = "heartbeat ok", beat + 30
        yield time, text, Features(bits, draw.expovariate(0.5), early, late)


PLANTED = {300: "new kind of line", **dict.fromkeys(range(500, 530), "burst"), 800: "silence", 1100: "slow"}


def judged(rarity: Rarity, lines: list[tuple[float, str, Features]]) -> list[Verdict]:
    return [rarity.judge(text, time, found) for time, text, found in lines]


@pytest.mark.parametrize("seed", range(5))
def test_what_is_planted_is_named_and_little_else_marked(seed: int) -> None:
    found = judged(Rarity(), list(log(1500, seed, PLANTED)))
    marked = {at: one.reason.partition(":")[0] for at, one in enumerate(found) if one.stands_out}
    true = {at: reason for at, reason in marked.items() if PLANTED.get(at) == reason}
    assert set(true.values()) == set(PLANTED.values()), marked
    assert len(marked) - len(true) <= 2 and sum(reason == "burst" for reason in marked.values()) <= 3, marked


def test_nothing_stands_out_at_first_and_about_as_much_as_was_asked_for_later() -> None:
    lines = list(log(3000, 9, {5: "new kind of line", WARM_UP - 2: "slow"}))
    few, many = (judged(Rarity(alarms), lines) for alarms in (10.0, 400.0))
    assert not any(one.stands_out for one in few[:WARM_UP])
    print([sum(one.stands_out for one in found) for found in (few, many)])
    assert sum(one.stands_out for one in few) <= 2
    assert 3 <= sum(one.stands_out for one in many) <= 36  # 3,000 s are 0.035 days


def test_what_is_usual_goes_through_a_file() -> None:
    lines = list(log(1500, 6, PLANTED))
    whole = judged(Rarity(), lines)
    first = Rarity()
    begun = judged(first, lines[:510])
    second = Rarity.restore(json.loads(json.dumps(first.as_dict())))
    assert begun + judged(second, lines[510:]) == whole


def test_a_silence_is_noticed_while_it_lasts() -> None:
    rarity, lines = Rarity(), list(log(900, 7, {}))
    judged(rarity, lines)
    end = lines[-1][0]
    assert not rarity.silent(end + 1).stands_out
    found = rarity.silent(end + 300)
    assert found.stands_out and found.reason.startswith("silence: no ")
    assert not rarity.silent(end + 301).stands_out


def test_without_times_a_day_is_so_many_lines() -> None:
    rarity = Rarity(5.0)
    for at in range(200):
        rarity.judge(f"a line {at % 7}", None, Features(10.0 + at % 5, 1.0, None, None))
    assert rarity.share == 5e-5
    assert rarity.judge("who is this", None, Features(900.0, 80.0, None, None)).reason == "new kind of line"
