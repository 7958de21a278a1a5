"""Compile the kernels into one shared library: `python -m liquidlm.ops.native.build`.

Every `*.cpp` of this folder is compiled once per instruction set, under the names that `lanes.h` gives. The
library has a C ABI and no headers of torch, so one build works with every torch and every Python.

The build hook of the package runs this file alone: it imports nothing of liquidlm.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

FOLDER = Path(__file__).parent
LIBRARY = FOLDER / ("liquidlm.kernels" + {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so"))
"""Its name has a point, so that nothing takes it for a module of Python."""
WINDOWS = sys.platform == "win32"
FLAGS = ("-std=c++17", "-O2", "-fvisibility=hidden", "-fno-exceptions", "-fno-rtti")
FLAGS += () if WINDOWS else ("-fPIC",)
FLAGS += ("-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-Wall", "-Wno-psabi")
AVX2 = ("-mavx2", "-mfma", "-mf16c", "-mbmi2")
AVX512 = (*AVX2, "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl")
X86_SETS = {"avx512": AVX512, "avx2": AVX2, "baseline": ()}
"""The instruction sets of x86 processors, the fastest first, and the compiler's flags for each."""


def instruction_sets() -> dict[str, tuple[str, ...]]:
    """The instruction sets to compile for on this kind of processor. On Arm, NEON is the baseline."""
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    return X86_SETS if x86 else {"baseline": ()}


def sources() -> list[Path]:
    """The files of this folder that are compiled, without the headers."""
    return sorted(FOLDER.glob("*.cpp"))


def fingerprint() -> str:
    """A hash of all sources and the platform. The library knows the one that it was built from."""
    digest = hashlib.sha256(sysconfig.get_platform().encode())
    for path in sorted([*FOLDER.glob("*.cpp"), *FOLDER.glob("*.h"), Path(__file__)]):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def is_built() -> bool:
    """Whether the library is there, built from these sources."""
    return LIBRARY.is_file() and fingerprint().encode() in LIBRARY.read_bytes()


def compiler() -> str | None:
    """The C++ compiler: $CXX, or the first of c++, g++ and clang++ on the path; on Windows clang++."""
    usual = ["clang++"] if WINDOWS else ["c++", "g++", "clang++"]
    names = [os.environ["CXX"]] if os.environ.get("CXX") else usual
    return next((found for name in names if (found := shutil.which(name))), None)


def build(
    target: Path = LIBRARY,
    more_flags: Iterable[str] = (),
    files: Iterable[Path] | None = None,
    only: str | None = None,
) -> Path | None:
    """Compile the library to `target`; None, with the reason on stderr, if there is no way to.

    Args:
        target: where the library goes.
        more_flags: of the compiler and the linker, such as those of a sanitizer.
        files: what to compile; None: `sources()`.
        only: compile for this instruction set alone.
    """
    cxx = compiler()
    if cxx is None:
        print("no C++ compiler: liquidlm computes with torch alone", file=sys.stderr)
        return None
    with TemporaryDirectory() as place:
        try:
            sets = {name: flags for name, flags in instruction_sets().items() if only in (None, name)}
            given = sources() if files is None else files
            _compile(cxx, given, sets, Path(place), target, list(more_flags))
        except subprocess.CalledProcessError as error:
            print(f"{cxx} fails: liquidlm computes with torch alone\n{error.stderr}", file=sys.stderr)
            return None
    return target


def _compile(
    cxx: str,
    files: Iterable[Path],
    sets: dict[str, tuple[str, ...]],
    place: Path,
    target: Path,
    more_flags: list[str],
) -> None:
    threads = _openmp(cxx, place)

    def compiled(job: tuple[Path, str, tuple[str, ...]]) -> str:
        source, name, flags = job
        result = place / f"{source.stem}.{name}.o"
        stamp = f'-DLIQUIDLM_FINGERPRINT="{fingerprint()}"'
        chosen = [*FLAGS, *flags, *threads, *more_flags, f"-DLIQUIDLM_SET={name}", stamp]
        _run([cxx, *chosen, "-c", str(source), "-o", str(result)])
        return str(result)

    longest_first = sorted(files, key=lambda source: source.stat().st_size, reverse=True)
    jobs = [(source, *one) for source in longest_first for one in sets.items()]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compiled, jobs))
    made = place / target.name
    links = [] if WINDOWS or sys.platform == "darwin" else ["-Wl,--as-needed"]
    _run([cxx, "-shared", *objects, *threads, *more_flags, *links, "-o", str(made)])
    target.unlink(missing_ok=True)  # a process that has the old library open keeps it
    shutil.move(made, target)


def _openmp(cxx: str, place: Path) -> list[str]:
    """The flag for threads. Apple's compiler has none, and Windows no library for it: one thread there."""
    if WINDOWS:
        return []
    probe = place / "probe.cpp"
    probe.write_text("#include <omp.h>\nint main() { return omp_get_max_threads() < 1; }\n", encoding="utf-8")
    try:
        _run([cxx, "-fopenmp", str(probe), "-o", str(place / "probe")])
    except subprocess.CalledProcessError:
        return []
    return ["-fopenmp"]


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)


def wheel_tag() -> str:
    """The tag of a wheel with the library: any Python 3, this system and processor."""
    return "py3-none-" + sysconfig.get_platform().replace("-", "_").replace(".", "_")


if __name__ == "__main__":
    sys.exit(build() is None)
