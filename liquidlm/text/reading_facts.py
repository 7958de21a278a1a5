"""What was found while a file with times was read."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from ..errors import counted
from .timeline import Timeline

NAMED = 3
"""Files that a note names; the others are counted."""


@dataclass
class ReadingFacts:
    """What a file is, and what its reader had to decide. It is complete when the file has been read.

    Attributes:
        name: of the file.
        kind: what the file is and how its times are written, in words.
        late: the policy for times that go back.
        timeline: late lines, and how often the clock was set back.
        before: lines without a time before the first one with a time. They are left out.
        untimed: lines without a time after it. Each belongs to the event before it.
        events: the number of events.
    """

    name: str = "the text"
    kind: str = ""
    late: str = "clamp"
    timeline: Timeline = field(default_factory=Timeline)
    before: int = 0
    untimed: int = 0
    events: int = 0

    def notes(self) -> list[str]:
        """What a user must know: lines that are left out, and times that are changed."""
        left_out = f"{counted(self.before, 'line')} before the first time: left out"
        return ([left_out] if self.before else []) + [*self.timeline.notes(self.late).values()]


def reading_notes(read: Iterable[ReadingFacts]) -> list[str]:
    """What was found in several files, each kind of file said once.

    Args:
        read: of the files.

    Example:
        >>> read = [ReadingFacts("a.log", "syslog", before=2), ReadingFacts("b.log", "syslog")]
        >>> for note in reading_notes(read):
        ...     print(note)
        a.log, b.log: syslog
        a.log: 2 lines before the first time: left out
    """
    kinds: dict[str, list[str]] = {}
    changed: list[str] = []
    for facts in read:
        if facts.kind:
            kinds.setdefault(facts.kind, []).append(facts.name)
        changed += [f"{facts.name}: {note}" for note in facts.notes()]
    said = [f"{_named(names)}: {kind}" for kind, names in kinds.items()]
    more = len(changed) - NAMED
    return said + changed[:NAMED] + ([f"{counted(more, 'more note')} of this kind"] if more > 0 else [])


def _named(names: list[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {counted(more, 'more file')}" if more > 0 else "")
