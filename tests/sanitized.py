"""The tests of the kernels under the compiler's sanitizers: `python tests/sanitized.py`.

Address finds reads and writes outside of arrays, undefined finds what C++ does not define. The kernels are
built again, for the processor's best instruction set, and the tests run with a copy of the package.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from liquidlm.ops.native import kernels
from liquidlm.ops.native.build import FOLDER, LIBRARY, build, compiler

TESTS = Path(__file__).parent
PACKAGE = TESTS.parent / "liquidlm"
FLAGS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g", "-O1")
PYTEST = ("-P", "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--capture=sys")
"""The sanitizers write to the file of stderr, which must not be captured."""


def runtime() -> Path | None:
    """The library of the address sanitizer, if the compiler has it."""
    cxx = compiler()
    if cxx is None or sys.platform != "linux":
        return None
    command = [cxx, "-print-file-name=libasan.so"]
    path = Path(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())
    return path if path.is_absolute() and path.is_file() else None


def main() -> int:
    """Build with the sanitizers and run the tests; 0 if they pass, or if there are no sanitizers."""
    library = runtime()
    if library is None or kernels().library is None:
        print("no sanitizers here: left out")
        return 0
    with TemporaryDirectory() as place:
        package = Path(place) / "liquidlm"
        shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns(LIBRARY.name, "__pycache__"))
        target = package / FOLDER.relative_to(PACKAGE) / LIBRARY.name
        if build(target, FLAGS, only=kernels().name) is None:
            return 1
        options = {"LD_PRELOAD": str(library), "ASAN_OPTIONS": "detect_leaks=0", "PYTHONPATH": place}
        options["LIQUIDLM_NATIVE"] = kernels().name
        words = [sys.executable, *PYTEST, *map(str, sorted(TESTS.glob("test_native_*.py")))]
        return subprocess.run(words, env={**os.environ, **options}, cwd=TESTS.parent).returncode


if __name__ == "__main__":
    sys.exit(main())
