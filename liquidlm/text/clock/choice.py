"""Which kind of time a file has, decided on its first lines."""

import itertools
import re
from collections.abc import Sequence

from ...errors import LiquidError
from .candidates import Candidate
from .instants import DAY
from .kinds import ORDERS
from .places import BEGIN, INDENTED, is_time_key

NEAR = 0.95
"""Kinds that are in almost as many lines as the best one are as good."""
MANY = 0.2
"""Times of another form in so many lines, of those with a time, are no part of a text."""
WORD = re.compile(r"word (\d+)(, indented)?")
DEEP = 3
"""A time after so many words stands within a sentence."""
LONG_NUMBER = 14
"""Characters of a number that is hardly anything but a time: with decimals, or in µs or ns."""
MINUTES, NEAR_ZERO = "00:12:31", 120.0
HOUR_AND_MINUTE = re.compile(r"\s*(?:[01]?\d|2[0-3]):[0-5]\d").fullmatch
LEVEL = re.compile(r"\s*[\[(|:-]?\s*(?:TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|FATAL|SEVERE|CRITICAL)\b")
SPENT = re.compile(
    r"(?:took|in|after|for|elapsed|duration|uptime|within|wait\w*|id|pid|user\w*|session|order|request|job|task|number"
    r"|no\.?|tel|phone|account|client|ref|code|txn|tx|block|size|bytes|count|total)[:=#]?$",
    re.IGNORECASE,
)
"""Words before a number or a clock that is not a time of the line."""

NUMBERS = r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}"
LETTERS = r"[^\W\d_]{3,10}"
DATE_BEFORE = re.compile(
    rf"(?:{NUMBERS}|\b(?:19|20)\d\d)[\w年]?\W*(?:\w+\.?\W{{1,2}}){{0,4}}$|\d+[-/.]\d+[\s|]*$|\d{{5,}}\s*$"
    rf"|\b\d{{1,2}}\.?\s+{LETTERS}\.?,?\s*$|\b{LETTERS}\.?\s+\d{{1,2}},?\s+$"
)
DATE_AFTER = re.compile(
    rf"\W{{1,3}}(?:\w*[Dd]ate\W{{1,3}})?"
    rf"(?:{NUMBERS}|\d{{1,2}}\.?(?: de)? {LETTERS}\.?,?(?: de)? (?:19|20)\d\d)\b"
)
"""A date beside a time of day, in a form that may not be known."""


def choose(found: Sequence[Candidate], lines: Sequence[str]) -> list[Candidate] | None:
    """The kind of time that most lines have in order, at its places; None if there is none.

    Of kinds in as many lines, the leftmost one counts, then the most precise.

    Args:
        found: every kind at every place.
        lines: the first lines of the file.

    Raises:
        LiquidError: day, month and year may be in several orders.
    """
    spoken = [line for line in lines if line.strip() and not line[0].isspace()] or lines
    plausible = [one for one in found if _is_plausible(one, lines, len(spoken))]
    plausible = _without_ids(plausible)
    if not plausible:
        return None
    best = _best(plausible)
    same = [one for one in plausible if one.place == best.place and one.kind.family == best.kind.family]
    if best.kind.family:
        best = _in_order(same, lines)
    known = found if best.kind.span in ("date", "year", "epoch") else plausible
    places = [one for one in known if one.kind is best.kind and _is_another_place(one, best)]
    _check_minutes(best, lines)
    _check_rare(best, found)
    _check_day(best, found)
    _check_other_forms([best, *places], found, len(spoken))
    return [best, *places]


def _best(plausible: list[Candidate]) -> Candidate:
    """The leftmost of those in the most lines; of doubtful ones only if they are in twice as many lines."""
    doubts = [_doubt(one, plausible) for one in plausible]
    top = max(one.score for one in plausible)
    level = min(doubt for one, doubt in zip(plausible, doubts, strict=True) if 2 * one.score >= top)
    clear = [one for one, doubt in zip(plausible, doubts, strict=True) if doubt <= level]
    most = max(one.score for one in clear)
    near = [one for one in clear if one.score >= NEAR * most]
    whole = [one for one in near if not any(_covers(other, one) for other in near)]
    return min(whole, key=lambda one: (one.first, -one.length))


def _covers(longer: Candidate, one: Candidate) -> bool:
    """Whether a time begins within another one, or the other way round, and is shorter."""
    apart = one.first + one.length <= longer.first or longer.first + longer.length <= one.first
    return not apart and longer.length > one.length


def _check_minutes(best: Candidate, lines: Sequence[str]) -> None:
    """Raise LiquidError if 21:05 may be hours and minutes, or minutes and seconds since the beginning.

    A clock that begins near 0, or has hours, decimals or many minutes, counts since the beginning.
    """
    written = [lines[seen.line][seen.begin : seen.end] for seen in best.seen]
    if best.kind.key == MINUTES and best.seen[0].value >= NEAR_ZERO and all(map(HOUR_AND_MINUTE, written)):
        raise LiquidError(
            f"line {best.seen[0].line + 1}: {written[0]} may be hours and minutes or minutes and seconds: say"
            ' which with --time-format "%H:%M" or "%M:%S"'
        )


def _check_rare(best: Candidate, found: Sequence[Candidate]) -> None:
    """Raise LiquidError if times within sentences are in half as many lines as others, or in fewer."""
    for other in found if best.place.startswith("word ") else ():
        in_order = other.backs == 0 and not other.constant and other.kind.span != "start"
        if in_order and len(other.seen) >= 2 * len(best.seen):
            raise LiquidError(
                f"line {other.seen[0].line + 1}: more than one time in the lines, and it is not clear which"
                " one counts: say with --time-format"
            )


def _check_day(best: Candidate, found: Sequence[Candidate]) -> None:
    """Raise LiquidError if the lines have a time of day, too, apart from their date."""
    dated = {seen.line for seen in best.seen} if best.kind.weak and best.kind.span == "date" else set()
    for other in found:
        both = dated & {seen.line for seen in other.seen} if other.kind.span == "day" else set()
        if both and 2 * len(both) >= len(dated):
            raise LiquidError(
                f"line {min(both) + 1} has a time of day apart from its date: say with --time-format which"
                " one counts"
            )


def _check_other_forms(chosen: Sequence[Candidate], found: Sequence[Candidate], spoken: int) -> None:
    """Raise LiquidError if many lines have a time of another form or place: they would continue an event.

    So it is in a log, most of whose lines have a time.
    """
    timed = {seen.line for one in chosen for seen in one.seen}
    place = WORD.fullmatch(chosen[0].place)
    in_words = place and int(place[1]) >= DEEP
    for other in found:
        is_number = other.kind.span == "epoch" and other.length < LONG_NUMBER
        begins = other.place == BEGIN and not (other.kind.weak or is_number or other.kind.span == "start")
        sure = begins or (in_words and other.kind is chosen[0].kind)
        missed = [seen.line for seen in other.seen if seen.line not in timed] if sure else []
        most = 2 * (len(missed) + len(timed)) >= spoken
        if missed and most and len(missed) >= MANY * len(timed):
            raise LiquidError(
                f"line {missed[0] + 1} has another form of time than line {min(timed) + 1}, or has it at"
                " another place: say with --time-format which one counts (lines of another form then continue"
                " the event before)"
            )


def _doubt(one: Candidate, others: list[Candidate]) -> int:
    """How much speaks against a kind, though it may be in more lines than another."""
    stands_still = one.constant and any(
        not other.constant and not other.kind.weak and len(other.seen) >= len(one.seen) for other in others
    )
    other_key = one.place.startswith("key ") and not is_time_key(one.place[4:])
    return 2 * one.kind.weak + other_key + stands_still


def _is_plausible(one: Candidate, lines: Sequence[str], spoken: int) -> bool:
    """Whether these may be the times of the lines, and not numbers or clocks in their text."""
    if one.kind.given:
        return True
    if one.kind.span == "day" and _has_date_beside(one, lines):
        return False
    if one.kind.family.startswith("nnnnnn") and _steps(one) >= 300 * (len(one.seen) - 1) > 0:
        return False  # from year to year: a number that counts the lines
    if one.place in (BEGIN, INDENTED):
        return one.kind.span != "epoch" or 2 * one.backs < len(one.seen)
    share = len(one.seen) / max(spoken, 1)
    if _is_time_key_place(one):
        return share >= 0.02
    if one.kind.span == "date":
        return share >= 0.2
    if one.kind.span == "year":
        return share >= 0.4
    before = [lines[seen.line][: seen.begin].rstrip(" \t[(") for seen in one.seen]
    words = [text.split()[-1] if text.split() else "" for text in before]
    if (
        share < 0.5
        or one.place.startswith("key ")
        or sum(map(bool, map(SPENT.search, words))) > len(words) / 2
    ):
        return False
    if one.kind.span == "epoch" and all(seen.end - seen.begin >= LONG_NUMBER for seen in one.seen):
        return True
    many = (len(one.seen) > 2 and one.score > 0.6 * len(one.seen)) or (len(one.seen) > 20 and share > NEAR)
    return (many and not one.constant and not _counts(one)) or not any(
        re.search(r"[a-z]", word) for word in words
    )


def _has_date_beside(one: Candidate, lines: Sequence[str]) -> bool:
    """Whether most of these times of day stand beside a date, in a form that is not known."""
    beside = 0
    for seen in one.seen:
        before, after = lines[seen.line][: seen.begin], lines[seen.line][seen.end :]
        beside += bool(DATE_BEFORE.search(before) or DATE_AFTER.match(after))
    return 2 * beside > len(one.seen)


def _is_time_key_place(one: Candidate) -> bool:
    return one.place.startswith("key ") and is_time_key(one.place[4:])


def _counts(one: Candidate) -> bool:
    """Whether the numbers go on by one, as those of requests do."""
    steps = {b.value - a.value for a, b in itertools.pairwise(one.seen)}
    return steps == {1.0} and one.kind.span == "epoch" and len(one.seen) > 4


def _without_ids(plausible: list[Candidate]) -> list[Candidate]:
    """Without numbers that are more than a day from the dates in the same lines."""
    dates = [one for one in plausible if one.kind.span == "date" and not one.kind.family]
    kept = []
    for one in plausible:
        values = {seen.line: seen.value for seen in one.seen}
        wrong = [
            date
            for date in dates
            if one.kind.span == "epoch"
            and date.score >= 0.8 * len(one.seen)
            and all(abs(values.get(seen.line, seen.value) - seen.value) > 1.1 * DAY for seen in date.seen)
            and any(seen.line in values for seen in date.seen)
        ]
        if not wrong:
            kept.append(one)
    return kept


def _is_another_place(one: Candidate, best: Candidate) -> bool:
    """Whether the times of some lines stand here: near the best place, or at the beginning too."""
    if one.place == best.place:
        return False
    if {one.place, best.place} == {BEGIN, INDENTED}:
        return len(one.seen) > 0.2 * len(best.seen)
    places = WORD.fullmatch(one.place), WORD.fullmatch(best.place)
    if not (places[0] and places[1]):
        return False
    lines = {seen.line for seen in best.seen}
    others = sum(seen.line not in lines for seen in one.seen)
    apart = abs(int(places[0][1]) - int(places[1][1]))
    return others > 0.05 * len(best.seen) and apart <= (2 if places[0][2] == places[1][2] else 0)


def _in_order(same: list[Candidate], lines: Sequence[str]) -> Candidate:
    """The order of day, month and year that the file as a whole has.

    A field over 12 decides, then a time that does not go back, then the smallest steps, then what is usual.
    The date of today decides nothing: a file is read alike on every day.
    """
    most = max(len(one.seen) for one in same)
    left = [one for one in same if len(one.seen) == most]
    fewest = min(one.backs for one in left)
    left = [one for one in left if one.backs == fewest]
    spans = sorted(left, key=_steps)
    if len(spans) > 1 and 2 * _steps(spans[0]) < _steps(spans[1]):
        left = spans[:1]
    usual = [one for one in left if one.kind.usual or _is_usual(one, lines)]
    if len(left) == 1 or len(usual) == 1:
        return (usual if len(left) > 1 else left)[0]
    seen = left[0].seen[0]
    written = lines[seen.line][seen.begin : seen.end]
    orders = " or ".join(ORDERS[one.kind.order] for one in left)
    examples = " or ".join(f'"{_words(one.kind.order, written)} …"' for one in left)
    raise LiquidError(
        f"line {seen.line + 1}: {written} may be read {orders}, and nothing in the file decides: say how it"
        f" is written with --time-format, such as {examples}"
    )


def _steps(one: Candidate) -> float:
    """The days from date to date, all together."""
    days = [seen.value // DAY for seen in one.seen]
    return float(sum(abs(b - a) for a, b in itertools.pairwise(days)))


def _is_usual(one: Candidate, lines: Sequence[str]) -> bool:
    """Whether this order is the usual one for the signs between the numbers, or for what follows the time."""
    seen = one.seen[0]
    line = lines[seen.line]
    sign = (re.findall(r"\d\d?([-/.])\d", line[seen.begin : seen.end]) or [""])[0]
    if one.kind.order in ("mdy", "md") and re.search(r"/\d+-\d\d:", line[seen.begin : seen.end]):
        return True  # Suricata's and Snort's
    if one.kind.order == "dmy":
        return sign == "."
    return one.kind.order == "ymd" and sign == "/" and LEVEL.match(line, seen.end) is not None


def _words(order: str, written: str) -> str:
    """The order as a strptime format, with the signs between the numbers as they are written."""
    sign = (re.findall(r"\d\d?([-/.])\d", written) or [""])[0]
    year = "%Y" if re.search(r"\d{4}", written) else "%y"
    return sign.join({"d": "%d", "m": "%m", "y": year}[letter] for letter in order)
