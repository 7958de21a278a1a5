"""What became of each test, against the list of what is known not to pass."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

PASSED, SKIPPED, FAILED = "passed", "skipped", "failed"


@dataclass(frozen=True)
class Known:
    """A line of the list: the verdict of every test whose name fits the pattern, and why."""

    verdict: str
    pattern: str
    reason: str

    def fits(self, test: str) -> bool:
        """Of "configuration:test"; a pattern without a configuration is of all."""
        return fnmatchcase(test if ":" in self.pattern else test.partition(":")[2], self.pattern)


def read_list(path: Path) -> list[Known]:
    """Of lines "verdict  pattern  reason"; what begins with # is a comment.

    Raises:
        ValueError: a line has no reason, or another verdict than skipped or failed.
    """
    known = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        parts = line.split(maxsplit=2)
        if len(parts) < 3 or parts[0] not in (SKIPPED, FAILED):
            raise ValueError(f"not 'skipped|failed  pattern  reason': {line}")
        known.append(Known(*parts))
    return known


def worst(reports: Iterator[tuple[str, str]]) -> dict[str, str]:
    """One verdict per test, of the verdicts of its parts."""
    order = (PASSED, SKIPPED, FAILED)
    found: dict[str, str] = {}
    for test, verdict in reports:
        found[test] = max(found.get(test, PASSED), verdict, key=order.index)
    return found


def differences(found: Mapping[str, str], known: list[Known]) -> Iterator[str]:
    """Where a test did not pass and is not on the list, or is on it with another verdict."""
    for test, verdict in sorted(found.items()):
        lines = [line for line in known if line.fits(test)]
        if not lines and verdict != PASSED:
            yield f"{test} {verdict}, and is not on the list"
        yield from (f"{test} {verdict}, the list says {x.verdict}" for x in lines if x.verdict != verdict)


def stale(found: Mapping[str, str], known: list[Known]) -> Iterator[str]:
    """Lines of the list that fit no test."""
    return (f"{x.pattern} is on the list, and is no test" for x in known if not any(map(x.fits, found)))


def summary(found: Mapping[str, str]) -> Iterator[str]:
    """A line of counts per configuration."""
    for name in dict.fromkeys(test.partition(":")[0] for test in found):
        counts = Counter(verdict for test, verdict in found.items() if test.startswith(f"{name}:"))
        yield f"{name}: " + ", ".join(f"{counts[verdict]} {verdict}" for verdict in (PASSED, FAILED, SKIPPED))
