"""What a watched log held, each hour and at the end: lines, alarms, and the kinds of lines that stood out."""

import json
import sys
import time
from collections import Counter

from ..errors import counted
from ..inference.rarity import Verdict
from ..inference.surprise import Line

EVERY = 3600.0
SHOWN, KEPT = 5, 1000
"""Kinds that a summary shows, and that it counts."""


class Summary:
    """Counts lines and marks, and prints them to standard error each hour.

    Args:
        as_json: print silences to standard output as JSON objects, as lines are.

    Attributes:
        marked: lines and silences that stood out so far.
    """

    def __init__(self, as_json: bool):
        self.as_json, self.marked = as_json, 0
        self._begin, self._lines, self._hours = time.monotonic(), 0, 0
        self._kinds: Counter[str] = Counter()

    def add(self, lines: list[Line]) -> None:
        """Count lines; print a summary when an hour is over."""
        self._lines += len(lines)
        for line in lines:
            if line.stands_out:
                self._count(f"{line.reason.partition(':')[0]}: {line.kind}")
        if time.monotonic() - self._begin > EVERY:
            self._print("the last hour")
            self._begin, self._lines, self._hours = time.monotonic(), 0, self._hours + 1
            self._kinds.clear()

    def silence(self, verdict: Verdict) -> None:
        """Print that nothing comes, at once."""
        self._count(verdict.reason)
        if self.as_json:
            found = {"text": None, "score": verdict.score, "reason": verdict.reason, "stands_out": True}
            print(json.dumps(found, ensure_ascii=True), flush=True)
        else:
            print(f"         ▲ [{verdict.reason}]", flush=True)

    def end(self) -> None:
        """Print what stood out since the last hour."""
        if self._kinds:
            self._print("since the last summary" if self._hours else "in all")

    def _count(self, kind: str) -> None:
        self.marked += 1
        if kind in self._kinds or len(self._kinds) < KEPT:
            self._kinds[kind] += 1

    def _print(self, when: str) -> None:
        lines, alarms = counted(self._lines, "line"), counted(self._kinds.total(), "alarm")
        print(f"summary, {when}: {lines}, {alarms}", file=sys.stderr)
        for kind, count in self._kinds.most_common(SHOWN):
            print(f"  {count:,} × {kind}", file=sys.stderr)
