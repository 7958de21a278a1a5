"""Timing in turn, and memory and seconds of one step in a process of its own."""

import json
import os
import re
import resource
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from liquidlm.runtime.memory import peak_memory

MEMORY_SHARE = 0.9
"""Of the machine's memory, what a child process may hold."""


def seconds_of(step: Callable[[], object]) -> float:
    begin = time.perf_counter()
    step()
    return time.perf_counter() - begin


def interleaved(steps: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every step in every round: one warm-up each, then all in turn, so that the machine's
    moods meet all alike."""
    for step in steps.values():
        step()
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            seconds[name].append(seconds_of(step))
    return seconds


def medians(seconds: dict[str, list[float]]) -> dict[str, float]:
    return {name: statistics.median(each) for name, each in seconds.items()}


def ratios(seconds: dict[str, list[float]], base: str) -> dict[str, float]:
    """Seconds of each over those of `base`: the median over rounds of the ratio within a round."""
    return {
        name: statistics.median(a / b for a, b in zip(each, seconds[base], strict=True))
        for name, each in seconds.items()
    }


def measured_in_child(arguments: list[str]) -> dict[str, float | str]:
    """What `python ARGUMENTS` says of itself by `report_step`: {"seconds", "peak_bytes"}, or {"failed": why}.

    A child that dies, of memory or of its time limit, is a result like any other.
    """
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    if done.returncode == -signal.SIGALRM:
        return {"failed": "over the time limit"}
    if done.returncode == -signal.SIGKILL or re.search("MemoryError|allocate memory", done.stderr):
        return {"failed": "out of memory"}
    said = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
    return {"failed": said[0]}


def report_step(build: Callable[[], Callable[[], object]], limit: float) -> None:
    """In the child: build, take one step within `limit` seconds, print its seconds and memory as JSON.

    "peak_bytes" is the growth of the process's peak over the step: what the step needs beside model and
    optimiser. Memory beyond MEMORY_SHARE of the machine's fails as an allocation, before the machine swaps.
    """
    allowed = int(MEMORY_SHARE * total_memory())
    resource.setrlimit(resource.RLIMIT_DATA, (allowed, resource.RLIM_INFINITY))
    step = build()
    loaded = peak_memory()
    signal.setitimer(signal.ITIMER_REAL, limit)  # its default action ends the process, within any kernel
    try:
        seconds = seconds_of(step)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    print(json.dumps({"seconds": seconds, "peak_bytes": peak_memory() - loaded}))


def total_memory() -> int:
    """Bytes of the machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
