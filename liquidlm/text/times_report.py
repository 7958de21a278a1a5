"""What the times of a file are: the answer of `liquidlm times`."""

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from statistics import median
from typing import Any

from .clock.stamps import is_dated
from .event_files import TextEvent
from .gaps import clock_step, histogram
from .reading_facts import ReadingFacts


@dataclass
class TimesReport:
    """Collects the times of a file as its events come.

    Attributes:
        facts: of its reader.
        documents: the number of documents.
        first, last: the earliest and the latest time in seconds; None without events.
        gaps: seconds between an event and the one before it in the same document.

    Example:
        >>> report = TimesReport(ReadingFacts("door.log"))
        >>> _ = list(report.collect([TextEvent(0.0, "on"), TextEvent(2.5, "off")]))
        >>> report.as_dict()["step"], report.as_dict()["median_gap"]
        (0.1, 2.5)
    """

    facts: ReadingFacts
    documents: int = 0
    first: float | None = None
    last: float | None = None
    gaps: "array[float]" = field(default_factory=lambda: array("d"))

    def collect(self, events: Iterable[TextEvent]) -> Iterable[TextEvent]:
        """The events of a document, as they pass by."""
        self.documents += 1
        before: float | None = None
        for event in events:
            if before is not None:
                self.gaps.append(event.time - before)
            before = event.time
            self.first = before if self.first is None else min(self.first, before)
            self.last = before if self.last is None else max(self.last, before)
            yield event

    def as_dict(self) -> dict[str, Any]:
        """All figures by name, for JSON. Times and gaps are in seconds."""
        facts, timeline = self.facts, self.facts.timeline
        return {
            "file": facts.name,
            "kind": facts.kind,
            "first": self.first,
            "last": self.last,
            "first_date": date_of(self.first),
            "last_date": date_of(self.last),
            "events": facts.events,
            "documents": self.documents,
            "lines_without_time": facts.untimed,
            "lines_before_the_first_time": facts.before,
            "late_policy": facts.late,
            "late_lines": timeline.late,
            "first_late_line": timeline.first_late or None,
            "clock_set_back": timeline.set_back,
            "first_line_set_back": timeline.first_set_back or None,
            "step": clock_step(self.gaps),
            "median_gap": median(self.gaps) if self.gaps else None,
            "longest_gap": max(self.gaps) if self.gaps else None,
            "gaps": [each._asdict() for each in histogram(self.gaps)],
        }


def date_of(time: float | None) -> str | None:
    """The date and time of seconds since 1970, in UTC; None for other times.

    >>> date_of(1769860800.5), date_of(90.0)
    ('2026-01-31T12:00:00.500000+00:00', None)
    """
    if time is None or not is_dated(time):
        return None
    return datetime.fromtimestamp(round(time, 6), UTC).isoformat()
