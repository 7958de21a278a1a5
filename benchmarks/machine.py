"""What a figure was measured on, and where figures are written."""

import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks.timing import total_memory
from liquidlm.ops.native.library import SWITCH, kernels
from liquidlm.runtime.files import write_text

RESULTS = Path(__file__).parent / "results"
INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
"""What sets processors of one name apart here: without the last two bfloat16 products are slow."""


def machine() -> dict[str, str | int]:
    """Processor, memory, threads, versions and commit, to stand beside every figure."""
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text(encoding="utf-8").splitlines() if cpu.exists() else []
    models = [line for line in lines if "model name" in line]
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    return {
        "processor": models[0].split(":")[1].strip() if models else platform.processor(),
        "instructions": " ".join(flag for flag in INSTRUCTIONS if flag in flags),
        "cores": os.cpu_count() or 0,
        "threads": torch.get_num_threads(),
        "kernels": kernels().name,
        "memory_bytes": total_memory(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "ncps": _version("ncps"),
        "commit": commit,
    }


@contextmanager
def without_kernels() -> Iterator[None]:
    """A context in which liquidlm computes with torch alone."""
    before = os.environ.get(SWITCH)
    os.environ[SWITCH] = "0"
    kernels.cache_clear()
    try:
        yield
    finally:
        os.environ.pop(SWITCH)
        if before is not None:
            os.environ[SWITCH] = before
        kernels.cache_clear()


def _version(package: str) -> str:
    """The installed version, or nothing."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def read_results(name: str) -> dict[str, Any]:
    """What an earlier run wrote; empty before the first."""
    file = RESULTS / f"{name}.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def write_results(name: str, figures: dict[str, Any]) -> Path:
    """Write RESULTS/name.json, whole or not at all, the machine first."""
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"{name}.json"
    rest = {key: value for key, value in figures.items() if key != "machine"}  # of an earlier run
    return write_text(file, json.dumps({"machine": machine(), **rest}, indent=1) + "\n")


def add_results(name: str, section: str, key: str, entries: dict[str, Any]) -> dict[str, Any]:
    """Put `entries` into section/key of RESULTS/name.json, each in the place of an earlier one of its name
    and beside all others; returns the whole."""
    figures = read_results(name)
    figures.setdefault(section, {}).setdefault(key, {}).update(entries)
    write_results(name, figures)
    return figures
