"""`import liquidlm` is light, its names come when they are used, and transformers finds them in any order."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import liquidlm

PACKAGE = Path(liquidlm.__file__).parent


def run(program: str) -> str:
    """What a fresh process prints."""
    environment = os.environ | {
        "PYTHONPATH": str(PACKAGE.parent),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_import_alone_loads_nothing_heavy() -> None:
    heavy = ("torch", "transformers", "numpy", "matplotlib", "pydantic", "rich")
    assert run(f"import sys, liquidlm; print([name for name in {heavy} if name in sys.modules])") == "[]\n"


def test_text_is_read_without_anything_heavy() -> None:
    heavy = ("torch", "transformers", "tokenizers", "numpy")
    program = "import sys; from liquidlm.text import builtin, corpus, event_files, held_out, hub, utf8"
    assert run(f"{program}; print([name for name in {heavy} if name in sys.modules])") == "[]\n"


def test_every_public_name_is_there_for_people_and_for_type_checkers() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    (typed,) = (node for node in tree.body if isinstance(node, ast.If))
    names = {alias.name for node in typed.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert names == set(liquidlm.__all__) == {name for names in liquidlm._MODULES.values() for name in names}
    assert set(liquidlm.__all__) <= set(dir(liquidlm))
    for name in liquidlm.__all__:
        assert getattr(liquidlm, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'LiquidTransformer'"):
        liquidlm.LiquidTransformer


USE = """
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM
from transformers.models.auto import modeling_auto
config = AutoConfig.for_model("liquidlm", vocab_size=32, embedding_dim=8, latent_dim=4, hidden_size=8)
for auto in (AutoModel, AutoModelForCausalLM):
    print(type(auto.from_config(config)).__name__, end=" ")
for names in (modeling_auto.MODEL_MAPPING_NAMES, modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES):
    print(names["liquidlm"], end=" ")
"""


ORDERS = (
    "import liquidlm",
    "import transformers.models.auto.modeling_auto; import liquidlm",
    "from liquidlm import LiquidModel",
    "import liquidlm; from transformers import GenerationMixin",
    "import liquidlm; from transformers import LlamaForCausalLM",
)
FORKS = f"""
import os, sys
import scipy.integrate, sympy, torch._dynamo, torch.distributed.tensor, torchdiffeq
assert not any(name.split(".")[0] in ("liquidlm", "transformers") for name in sys.modules)
for first in {ORDERS}:
    if not (child := os.fork()):
        exec(first + {USE!r})
        sys.stdout.flush()
        os._exit(0)
    print(os.waitpid(child, 0)[1], flush=True)
"""
"""Each order in a fork of a process that has imported what takes long, and nothing of the two packages."""


@pytest.fixture(scope="module")
def found() -> dict[str, list[str]]:
    """What a process prints that begins with each order."""
    if not hasattr(os, "fork"):
        return {first: [*run(first + USE).split(), "0"] for first in ORDERS}
    return dict(zip(ORDERS, map(str.split, run(FORKS).splitlines()), strict=True))


@pytest.mark.parametrize("first", ORDERS)
def test_transformers_finds_the_models_in_any_order_of_imports(found, first: str) -> None:
    assert found[first] == [*["LiquidModel", "LiquidTextGenerationModel"] * 2, "0"]
