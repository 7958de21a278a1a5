"""Where transformers' tests come from: the source distribution of the version that is installed."""

import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

CACHE = Path(__file__).parent.parent / "build" / "conformance"
PACKAGE = "transformers_tests"
NOT_IN_IT = {
    "exporters.test_export": {"ExportTesterMixin": type("ExportTesterMixin", (), {})},
    "generation.test_utils": {"GenerationTesterMixin": type("GenerationTesterMixin", (), {})},
    "utils.test_configuration_utils": {"config_common_kwargs": {"num_labels": 7, "return_dict": False}},
}
"""What the common tests import and the source distribution leaves out, and what stands for it: no tests."""


def fetched() -> Path:
    """The folder of transformers' tests, fetched by pip the first time."""
    name = f"transformers-{version('transformers')}"
    if not (CACHE / name).exists():
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "transformers"]
        subprocess.run([*pip, "--dest", str(CACHE), name.replace("-", "==")], check=True)
        with tarfile.open(CACHE / f"{name}.tar.gz") as archive:
            inside = [member for member in archive if member.name.startswith(f"{name}/tests/")]
            archive.extractall(CACHE, inside, filter="data")
        (CACHE / name / "tests" / "__init__.py").touch()  # the tests import it, and it is left out, too
    return CACHE / name / "tests"


def install() -> None:
    """Makes the tests importable as a package."""
    package = ModuleType(PACKAGE)
    package.__path__ = [str(fetched())]
    sys.modules[PACKAGE] = package
    for name, content in NOT_IN_IT.items():
        stand_in = ModuleType(f"{PACKAGE}.{name}")
        vars(stand_in).update(content)
        sys.modules[f"{PACKAGE}.{name}"] = stand_in
