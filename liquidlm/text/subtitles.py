"""SubRip (.srt) and WebVTT (.vtt) ▶ events: what is shown, at the time when it appears.

People's files break the formats' rules, and players show them. So does this reader: it takes files without
blank lines, with blank lines inside a cue, without milliseconds, with cues in any order. A line with two
times and an arrow begins a cue. What stands right before it, alone or as a number, is the name of the cue.
All other lines are shown, except notes, styles, regions and markup.

A line that stays on the screen from one cue to the next is one line: roll-up captions repeat it.
"""

import html
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from ..errors import LiquidError

TIME = r"(?:\d+ ?: ?)?\d{1,2} ?: ?\d{1,2}(?: ?[.,] ?\d*)?"
TIMING = re.compile(rf"[\s\u200b\u200e\u200f]*({TIME})\s*(?:--?>|→)\s*({TIME})(?![\d:])(.*)")
"""The first line of a cue: its beginning, its end, and where and how it is shown."""
NO_TIMING = re.compile(r"\s*\d+:[\w:.,]*\s*-->\s*-?\d")
"""A line that is to begin a cue, and does not if TIMING does not match."""
SETTING = re.compile(r"[A-Za-z]\w*:\S+")
BLOCKS = re.compile(r"(?:NOTE|STYLE|REGION)(?:\s|$)")
"""The first line of what a WebVTT file does not show."""
NUMBER = re.compile(r"\s*\d+\s*")
WEBVTT_TAG = re.compile(r"</?[A-Za-z][^<>]*>|</?>|<[\d:.]+>|\{\\[^}]*\}")
SUBRIP_TAG = re.compile(
    r"</?(?:b|i|u|s|c|v|font|span|ruby|rt|lang|em|strong)\b[^<>]*>|<[\d:.]+>|\{\\[^}]*\}|\{/?[biu]\}",
    re.IGNORECASE,
)
BREAK = re.compile(r"<br\s*/?>|\\N", re.IGNORECASE)
ENTITY = re.compile(r"&(?:#\d+|#[xX][0-9a-fA-F]+|\w+);")
TOUCHING = 0.05
"""Seconds: a cue that begins so soon after the one before is on the screen without a break."""
OTHER_KINDS = (".ass", ".ssa", ".sbv", ".sub", ".ttml", ".dfxp")
"""Subtitles that are not read."""


class Subtitle(NamedTuple):
    """What one cue adds to the screen.

    Attributes:
        line: the number of the line with its times.
        time: when it appears, in seconds.
        text: without markup, its lines joined by a space.
    """

    line: int
    time: float
    text: str


@dataclass
class _Cue:
    line: int
    begin: float
    end: float
    shown: list[str] = field(default_factory=list)


def read_subtitles(lines: Iterable[str], name: str, *, in_order: bool = True) -> list[Subtitle]:
    """The subtitles of a file.

    >>> text = "1\\n00:00:01,000 --> 00:00:02,000\\n<i>Tom &amp; Ana</i>\\n2\\n0:03 --> 0:04\\n- No.\\n- Yes."
    >>> [(one.time, one.text) for one in read_subtitles(text.split("\\n"), "talk.srt")]
    [(1.0, 'Tom & Ana'), (3.0, '- No. - Yes.')]

    Args:
        lines: the lines of the file.
        name: stands for the file in the message of an error.
        in_order: sort them by their times; False: the order of the file.

    Raises:
        LiquidError: a time cannot be read, there is text before the first one, or there is no subtitle.
    """
    cues = _Cues(name).read(lines)
    return list(_once(sorted(cues, key=lambda cue: cue.begin) if in_order else cues))


class _Cues:
    """Lines ▶ cues. `block` holds the lines since the last blank one, or since the times of the cue."""

    def __init__(self, name: str):
        self.name, self.webvtt = name, False
        self.cue: _Cue | None = None
        self.block: list[tuple[int, str]] = []
        self.after_blank = True
        self.last_name = 0

    def read(self, lines: Iterable[str]) -> list[_Cue]:
        """All cues, in the order of the file."""
        cues = []
        numbered = [*self._numbered(lines)]
        while numbered and not numbered[-1][1].strip():
            numbered.pop()
        for number, line in numbered:
            if found := TIMING.fullmatch(line):
                self._name_next()
                self._end_block()
                self.cue = _Cue(number, self._seconds(found[1], number), self._seconds(found[2], number))
                cues.append(self.cue)
                self.after_blank = False
                rest = found[3].strip()
                if rest and not all(map(SETTING.fullmatch, rest.split())):
                    self.block.append((number, rest))
            elif NO_TIMING.match(line):
                raise LiquidError(
                    f"{self.name}, line {number}: {line.strip()!r} is not a time of a subtitle: write"
                    " 00:00:01,000 --> 00:00:02,500"
                )
            elif not (line if self.webvtt else line.strip()):
                self._end_block()
            else:
                self.block.append((number, line))
        if [line.strip() for _, line in self.block] != [str(self.last_name + 1)] or not self.after_blank:
            self._end_block()  # a last number without times shows nothing
        if not cues:
            raise LiquidError(
                f"{self.name}: no subtitle in it: one begins with 00:00:01,000 --> 00:00:02,500"
            )
        return cues

    def _numbered(self, lines: Iterable[str]) -> Iterator[tuple[int, str]]:
        """The lines after the header; in these formats a lone CR ends a line too."""
        header = False
        for number, whole in enumerate(lines, start=1):
            for line in whole.rstrip("\r\n").split("\r"):
                if number == 1 and line.lstrip("\ufeff").startswith("WEBVTT"):
                    header = self.webvtt = True
                elif header and line and not TIMING.fullmatch(line):
                    continue
                else:
                    header = False
                    yield number, line.removeprefix("\ufeff") if number == 1 else line

    def _name_next(self) -> None:
        """Drop the name of the next cue from the end of the block."""
        if not self.block:
            return
        line = self.block[-1][1]
        alone = len(self.block) == 1 and self.after_blank
        if NUMBER.fullmatch(line):
            if not self.webvtt or alone or int(line) == self.last_name + 1:
                self.last_name = int(line)
                self.block.pop()
        elif alone and (self.cue is None or self.cue.shown):
            self.block.pop()

    def _end_block(self) -> None:
        """The block's lines are shown by the cue, unless it is one that WebVTT does not show."""
        block, begins, self.block, self.after_blank = self.block, self.after_blank, [], True
        if not block or (self.webvtt and begins and BLOCKS.match(block[0][1])):
            return
        number, first = block[0]
        if self.cue is None:
            if all(NUMBER.fullmatch(line) or not line.strip() for _, line in block):
                return
            raise LiquidError(
                f"{self.name}, line {number}: {first.strip()!r} stands before the first time: begin with"
                " 00:00:01,000 --> 00:00:02,500"
            )
        tag = WEBVTT_TAG if self.webvtt else SUBRIP_TAG
        self.cue.shown += filter(None, (_plain(line, tag) for _, line in block))

    def _seconds(self, time: str, number: int) -> float:
        *large, seconds = time.replace(" ", "").replace(",", ".").split(":")
        fields = [*map(int, large), float(seconds)]
        if any(part >= 60 for part in fields[-2:]):
            raise LiquidError(
                f"{self.name}, line {number}: {time} is not a time: minutes and seconds end at 59"
            )
        return sum(part * 60**power for power, part in enumerate(reversed(fields)))


def _plain(line: str, tag: re.Pattern[str]) -> str:
    """A line without markup; entities become characters."""
    text = ENTITY.sub(lambda found: html.unescape(found[0]), tag.sub("", BREAK.sub(" ", line)))
    return text.strip()


def _once(cues: Iterable[_Cue]) -> Iterator[Subtitle]:
    """What each cue adds to the lines that are on the screen already."""
    screen, until = [], -float("inf")
    for cue in cues:
        kept = 0
        if cue.begin <= until + TOUCHING:
            most = min(len(screen), len(cue.shown))
            kept = next((n for n in range(most, 0, -1) if screen[-n:] == cue.shown[:n]), 0)
        if new := cue.shown[kept:]:
            yield Subtitle(cue.line, cue.begin, " ".join(new))
        if cue.shown:
            screen, until = cue.shown, cue.end
