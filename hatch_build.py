"""The build hook of the package: it compiles the kernels, where there is a compiler, and names the wheel."""

import importlib.util
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface  # pyright: ignore[reportMissingImports]

BUILD = Path("liquidlm/ops/native/build.py")


class NativeBuildHook(BuildHookInterface):
    """Runs `liquidlm/ops/native/build.py`, which imports nothing of the package."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and put the library into the wheel."""
        spec = importlib.util.spec_from_file_location("native_build", Path(self.root) / BUILD)
        assert spec is not None
        assert spec.loader is not None
        native = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(native)
        library = native.LIBRARY if native.is_built() else native.build()
        if library is None:
            return
        build_data["artifacts"].append(library.relative_to(self.root).as_posix())
        build_data["pure_python"] = False
        build_data["tag"] = native.wheel_tag()
