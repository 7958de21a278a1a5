"""The tests of the kernels under the compiler's sanitizers: `python tests/sanitized.py`.

Address finds reads and writes outside of arrays, undefined finds what C++ does not define. The kernels are
built anew into a folder for each, and the tests run with that folder's copy of the package.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from liquidlm.ops.native.build import FOLDER, LIBRARY, build, compiler

TESTS = Path(__file__).parent
PACKAGE = TESTS.parent / "liquidlm"
SANITIZERS = {
    "address": ("asan", ["-fsanitize=address"]),
    "undefined": ("ubsan", ["-fsanitize=undefined", "-fno-sanitize-recover=all"]),
}
"""Each sanitizer: its library, and the flags of the compiler."""


def runtime(name: str) -> Path | None:
    """The library of a sanitizer, if the compiler has it."""
    cxx = compiler()
    if cxx is None or sys.platform != "linux":
        return None
    command = [cxx, f"-print-file-name=lib{name}.so"]
    path = Path(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())
    return path if path.is_absolute() and path.is_file() else None


def check(sanitizer: str) -> bool:
    """Build with one sanitizer and run the tests. Whether they pass; also if there is no such sanitizer."""
    name, flags = SANITIZERS[sanitizer]
    library = runtime(name)
    if library is None:
        print(f"sanitizer {sanitizer}: not in this compiler, left out")
        return True
    with TemporaryDirectory() as place:
        package = Path(place) / "liquidlm"
        shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("liquidlm.kernels.*", "__pycache__"))
        if build(package / FOLDER.relative_to(PACKAGE) / LIBRARY.name, [*flags, "-g", "-O1"]) is None:
            return False
        options = {"LD_PRELOAD": str(library), "ASAN_OPTIONS": "detect_leaks=0", "PYTHONPATH": place}
        tests = sorted(TESTS.glob("test_native_*.py"))
        words = [
            sys.executable,
            "-P",
            "-m",
            "pytest",
            "-q",
            "-x",
            "--durations=6",
            "-p",
            "no:cacheprovider",
            *map(str, tests),
        ]
        print(f"sanitizer {sanitizer}:", flush=True)
        return subprocess.run(words, env={**os.environ, **options}, cwd=TESTS.parent).returncode == 0


if __name__ == "__main__":
    passed = [check(sanitizer) for sanitizer in SANITIZERS]
    sys.exit(not all(passed))
