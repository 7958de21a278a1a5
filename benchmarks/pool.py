"""Many runs, each in a process of its own; what is already measured is not run again."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.machine import machine, read_results, write_results
from liquidlm.runtime.allocator import keep_freed_memory

Figures = dict[str, Any]


def run_pool(name: str, module: str, jobs: dict[str, Figures], workers: int) -> dict[str, Figures]:
    """The results of all jobs, by key; those already in RESULTS/name.json, under "trials", are not run again.

    Each job is a process `python -m module JOB`, with an equal share of the cores; its result is written as
    soon as it comes. A run that dies is {"failed": why}, and is tried again the next time.
    """
    lock = threading.Lock()

    def run(key: str) -> None:
        result = _in_child(module, jobs[key], max(1, (os.cpu_count() or 1) // workers))
        with lock:
            figures = read_results(name)
            figures.setdefault("trials", {})[key] = {**jobs[key], **result}
            write_results(name, figures)

    known = read_results(name).get("trials", {})
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(run, [key for key in jobs if "failed" in known.get(key, {"failed": "not yet run"})]))
    known = read_results(name).get("trials", {})
    return {key: known[key] for key in jobs}


def _in_child(module: str, job: Figures, threads: int) -> Figures:
    done = subprocess.run(
        [sys.executable, "-m", module, json.dumps(job)],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        return {"failed": f"exit code {done.returncode}"}
    here = machine()
    return {
        **json.loads(done.stdout.splitlines()[-1]),
        "threads": threads,
        **{name: here[name] for name in ("processor", "gpu", "commit")},
    }


def report(run: Callable[[Figures], Figures]) -> None:
    """In the child: run the job of the command line and print its result."""
    keep_freed_memory()
    print(json.dumps(run(json.loads(sys.argv[1]))))
