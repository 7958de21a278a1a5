"""Whether what stands beside the times of a file are time zones, decided on its first lines."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, tzinfo

from ...errors import LiquidError
from .candidates import compiled
from .instants import zone_in
from .kinds import Kind
from .places import LONGEST, REACH, place_of
from .zones import looks_like_zone, unclear_zone, zone_before, zone_field, zone_of

MOST_NUMBERS = 3
"""A file whose offsets are whole hours without minutes has at most so many of them."""


def zones_stand_apart(
    lines: Sequence[str], kind: Kind, places: Sequence[str], zone: tzinfo | None = None
) -> bool:
    """Whether a zone may follow a time after a space. Where few do, they are words of the text.

    >>> from .kinds import kinds
    >>> kind = kinds()["2026-01-31 12:00:00"]
    >>> lines = ["2026-01-31 12:00:00 a", "2026-01-31 12:00:01 CET is a zone", "2026-01-31 12:00:02 b"]
    >>> zones_stand_apart(lines, kind, ["begin"]), zones_stand_apart(lines[1:2], kind, ["begin"])
    (False, True)

    Args:
        lines: the first lines of a file.
        kind, places: of its times.
        zone: that the user gives; None: none.

    Raises:
        LiquidError: many of the times have a zone, and others have none.
    """
    apart: list[str] = []
    without = 0
    for _, found in _times(lines, kind, places):
        zoned = _zone_of_time(found)
        without += not zoned
        apart += [zoned.strip()] if zoned[:1].isspace() and zone_of(zoned) is not UTC else []
    if not apart or not without or (zone is not None and len(apart) >= without):
        return True
    if len(apart) >= without:
        raise LiquidError(
            f"some times have a zone, such as {apart[0]}, and others have none: say whose they are with"
            " --time-zone, or how they are written with --time-format"
        )
    return False


def check_zones(lines: Sequence[str], kind: Kind, places: Sequence[str]) -> None:
    """Check that the zones of the first lines are known; the user gives none.

    Raises:
        LiquidError: a zone is not known, or it is not clear whether it is one. The message names the option.
    """
    words: Counter[str | None] = Counter()
    numbers, before = set(), Counter[str]()
    for line, found in _times(lines, kind, places):
        zone_in(found.groupdict(), None)
        zoned = _zone_of_time(found)
        numbers |= {zoned} if re.fullmatch(r"\s[+-]\d\d", zoned) else set()
        before[zone_before(line[: found.start()])] += not zoned
        words[None if zoned else looks_like_zone(line[found.end() :])] += 1
        if not zoned and (said := zone_field(line)):
            raise LiquidError(f"{said} in the lines is a zone, and their times have none: give --time-zone")
    if len(numbers) > MOST_NUMBERS:
        raise LiquidError(
            f"the numbers after the times, such as{', '.join(sorted(numbers)[:3])}, may be offsets from UTC"
            " or not: say how the times are written with --time-format"
        )
    if len(before) == 1 and (word := next(iter(before))):
        raise unclear_zone(f"{word} before the times")
    if words and None not in words and len(words) <= 2:
        raise unclear_zone(str(words.most_common(1)[0][0]))


def _times(lines: Sequence[str], kind: Kind, places: Sequence[str]) -> Iterator[tuple[str, re.Match[str]]]:
    """The lines with a time at these places, and the time."""
    for line in lines:
        for found in compiled(kind.pattern).finditer(line, 0, REACH + LONGEST):
            if place_of(line, found.start()) in places:
                yield line, found
                break


def _zone_of_time(found: re.Match[str]) -> str:
    """The zone of a time as it is written; empty if there is none."""
    parts = found.groupdict()
    return parts.get("z") or parts.get("z2") or ""
