"""Run a benchmark: `python -m benchmarks.run NAME [options]`; without a name, the list of them.

Each writes results/NAME.json, with the machine it ran on, and most draw docs/images/NAME.png.
"""

import ast
import importlib
import os
import sys
from pathlib import Path

from liquidlm.runtime.allocator import keep_freed_memory
from liquidlm.runtime.streams import READER_GONE, OutputLost, standard_streams

BENCHMARKS = {
    "training_step": "training_step",
    "model_size": "model_size",
    "gemm_share": "gemm_share",
    "embedding_share": "embedding_share",
    "generation": "generation",
    "reading": "reading",
    "quality": "quality",
    "compressors": "compressors",
    "nanogpt": "nanogpt",
    "ablations": "ablations",
    "recall": "recall",
    "long_context": "long_context",
    "elapsed": "elapsed",
    "apollo": "apollo",
    "clocked_log": "clocked_log",
    "marks": "marks",
    "serving": "serving",
    "surprise": "surprise",
    "hdfs": "hdfs",
}
"""Name ▶ module of this package, whose `main(argv)` is called."""


def summary(module: str) -> str:
    """The first line of a module's docstring, read without running it."""
    file = Path(__file__).with_name(f"{module}.py")
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) if file.exists() else None
    return (text or "").partition("\n")[0]


def main(argv: list[str] | None = None) -> int:
    """Run one benchmark. Returns the exit code: 0, or 2 for an unknown name."""
    name, *options = (sys.argv[1:] if argv is None else argv) or ["--list"]
    if name in ("--list", "--help", "-h"):
        for known, module in BENCHMARKS.items():
            print(f"{known:16} {summary(module)}")
        return 0
    if name not in BENCHMARKS:
        print(f"error: unknown benchmark {name!r}: choose one of {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    if os.name != "posix":
        print(
            "error: the benchmarks limit time and memory: run them on Linux or macOS",
            file=sys.stderr,
        )
        return 2
    keep_freed_memory()  # for all that are compared, as the command line does
    importlib.import_module(f"benchmarks.{BENCHMARKS[name]}").main(options)
    return 0


if __name__ == "__main__":
    with standard_streams():
        try:
            code = main()
        except OutputLost as lost:  # the reader is gone, or the disk is full
            code = READER_GONE if lost.reader_gone else str(lost)
    raise SystemExit(code)
