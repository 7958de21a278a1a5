"""Spacelog's transcripts of the Mercury, Gemini and Apollo missions ▶ .jsonl with times.

    python examples/apollo.py FOLDER OUT        # FOLDER/train/*.txt ▶ OUT/train/*.jsonl, and so on
    liquidlm train --timestamps OUT/train --valid OUT/valid --out runs/apollo --minutes 10
    liquidlm generate runs/apollo --timestamps "CC: Apollo 11, Houston."

An utterance is `[DD:HH:MM:SS]` (before launch with a minus), then `SPEAKER: text`; lines that begin with `_`
mark pages. Where a transcript goes back in time (it is typed from several tapes) the utterance gets the time
of the one before.
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from liquidlm.text.clock.stamps import seconds

STAMP = re.compile(r"\[(-?[\d:]+)\]\s*$")


def utterances(lines: Iterator[str]) -> Iterator[dict[str, float | str]]:
    """{"time": seconds since launch, "text": "SPEAKER: …"}"""
    time, said, latest = None, [], float("-inf")
    for line in [*lines, "[0:00]"]:  # the last closes the last utterance
        if found := STAMP.match(line):
            if time is not None and said:
                latest = max(latest, time)
                yield {"time": latest, "text": " ".join(said)}
            time, said = seconds(found[1]), []
        elif line.strip() and not line.startswith("_"):
            said.append(line.strip())


def main(folder: Path, out: Path) -> None:
    for file in sorted(folder.glob("*/*.txt")):
        events = list(utterances(iter(file.read_text(encoding="utf-8").splitlines())))
        target = out / file.parent.name / f"{file.stem}.jsonl"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(
            "".join(json.dumps(event, ensure_ascii=False) + "\n" for event in events), encoding="utf-8"
        )
        print(f"{target}: {len(events):,} utterances, {events[-1]['time']:,.0f} s")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
