"""The text of a real log, with its clock and without.

    python -m benchmarks.clocked_log [--log FILE] [--steps 500] [--seeds 3] [--workers 2]

Ours with the times of the lines, and a twin without times, are trained on the first four fifths of the log's
lines and judged on the last fifth: bits per byte of the text, which has no times in it in either case. The
model with times is also judged with the gaps shuffled. Nothing is chosen on the log. The default log is the
one that Debian's package manager keeps of its work; it differs from machine to machine, so the results have
its size. Results already in results/clocked_log.json are kept.
"""

import argparse
import statistics
import sys
from pathlib import Path
from typing import Any

from benchmarks.apollo import Mission, judged_text, shuffled, train_text
from benchmarks.pool import report, run_pool
from liquidlm.text.event_files import read_events

NAME = "clocked_log"
LOG = Path("/var/log/dpkg.log")
FOR_TRAINING = 0.8


def read_log(file: Path) -> Mission:
    with file.open(encoding="utf-8", newline="\n") as lines:
        return [event for document in read_events(lines, file.suffix, file.name) for event in document]


def parts_of(file: Path) -> tuple[Mission, Mission]:
    """The lines for training, and those to judge by."""
    events = read_log(file)
    at = int(FOR_TRAINING * len(events))
    return events[:at], events[at:]


def work(job: dict[str, Any]) -> dict[str, Any]:
    train, test = parts_of(Path(job["log"]))
    model, tokenizer = train_text([train], job["timed"], job["steps"], job["seed"])
    found: dict[str, Any] = {"real": judged_text(model, tokenizer, [test], job["timed"])}
    if job["timed"]:
        found["shuffled"] = judged_text(model, tokenizer, [shuffled(test)], True)
    found["lines"] = {"training": len(train), "test": len(test)}
    return found


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog=NAME, description=__doc__)
    parser.add_argument("--log", type=Path, default=LOG)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args(argv)
    if not given.log.is_file():
        raise SystemExit(f"there is no log {given.log}: name one with --log FILE")
    size = given.log.stat().st_size
    jobs = {
        f"timed={timed} seed={seed} steps={given.steps} {given.log.name} of {size} bytes": {
            "log": str(given.log),
            "timed": timed,
            "steps": given.steps,
            "seed": seed,
        }
        for timed in (True, False)
        for seed in range(given.seeds)
    }
    results = run_pool(NAME, "benchmarks.clocked_log", jobs, given.workers)
    for timed, clock in ((True, "real"), (True, "shuffled"), (False, "real")):
        bits = [
            run[clock]["bits_per_byte"] for run in results.values() if run["timed"] is timed and clock in run
        ]
        name = f"with its clock, {clock} gaps" if timed else "without its clock"
        print(f"{name:32} {statistics.mean(bits):.4f} bits per byte  ({', '.join(f'{b:.4f}' for b in bits)})")


if __name__ == "__main__":
    if len(sys.argv) == 2 and sys.argv[1].startswith("{"):
        report(work)
    else:
        main()
