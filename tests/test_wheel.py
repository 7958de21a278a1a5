"""The package as users get it: a wheel with kernels where there is no compiler, and the sources alone."""

import json
import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
import torch

from liquidlm.ops.native.build import LIBRARY, compiler, sources, wheel_tag

pytest.importorskip("build")
pytest.importorskip("hatchling")
ROOT = Path(__file__).parents[1]
BUILD = (sys.executable, "-m", "build", "--no-isolation", "--outdir")


def run(*command: object, **environment: str) -> str:
    """The output of a command that does not see this clone."""
    given = {
        name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "LIQUIDLM_NATIVE")
    }
    given.update({"PYTHONPATH": "", **environment})
    words = [str(word) for word in command]
    done = subprocess.run(words, env=given, capture_output=True, text=True, cwd=Path(sys.prefix))
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


USE = """
import runpy, sys
for words in (["info", "--json"], None, ["generate", "Once", "--max-new-tokens", "3"]):
    if words is None:
        import liquidlm
        print(liquidlm.__file__)
        continue
    sys.argv = ["liquidlm", *words]
    try:
        runpy.run_module("liquidlm", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        assert not end.code, words
"""
"""One process imports the package once: what `info` says, where the package is, and what it writes."""


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    run(*BUILD, folder, "--sdist", ROOT)
    return next(folder.glob("*.tar.gz"))


@pytest.fixture
def install(tmp_path):
    """Install a file into a fresh environment with nothing else on the path; returns what `info` says there.

    torch and the other packages come from the environment of the tests, behind those of the fresh one.
    """

    def installed(package: Path) -> dict:
        venv.create(tmp_path / "fresh", with_pip=False)
        windows = ("Scripts", "python.exe")
        python = (tmp_path / "fresh").joinpath(*(windows if os.name == "nt" else ("bin", "python")))
        inside = {"PATH": str(python.parent), "CXX": ""}
        site = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
        (Path(site) / "others.pth").write_text(str(Path(torch.__file__).parents[1]))
        options = ("--no-deps", "--no-index", "--no-build-isolation", "--no-compile")
        run(python, "-m", "pip", "install", "--prefix", tmp_path / "fresh", *options, package, **inside)
        facts, place, written = run(python, "-c", USE, **inside).splitlines()
        assert Path(site) in Path(place).parents
        return json.loads(facts) | {"written": written}

    return installed


def test_the_sources_are_whole(source):
    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    headers = LIBRARY.parent.glob("*.h")
    needed = [path.relative_to(ROOT).as_posix() for path in (*sources(), *headers)]
    assert {"hatch_build.py", "liquidlm/ops/native/build.py", *needed} <= names
    assert LIBRARY.relative_to(ROOT).as_posix() not in names


def quick_compiler(file: Path) -> str:
    """The compiler without optimisation, which takes most of the time and changes no name in the wheel."""
    if os.name == "nt":
        return str(compiler())
    file.write_text(f'#!/bin/sh\nexec "{compiler()}" "$@" -O0\n')
    file.chmod(0o755)
    return str(file)


@pytest.mark.skipif(compiler() is None, reason="no C++ compiler")
def test_a_wheel_has_kernels_that_need_no_compiler(source, install, tmp_path):
    with tarfile.open(source) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    folder = next((tmp_path / "unpacked").iterdir())
    run(*BUILD, tmp_path, "--wheel", folder, CXX=quick_compiler(tmp_path / "c++"))
    wheel = next(tmp_path.glob("*.whl"))
    assert wheel.name.endswith(f"-{wheel_tag()}.whl")
    assert f"liquidlm/ops/native/{LIBRARY.name}" in zipfile.ZipFile(wheel).namelist()
    facts = install(wheel)
    assert facts["kernels"] in ("avx512", "avx2", "baseline")
    assert facts["written"]


def test_the_sources_without_a_compiler_compute_with_torch(source, install):
    facts = install(source)
    assert facts["kernels"] == "torch (not built: no C++ compiler at installation, or it failed)"
    assert facts["written"]
