"""transformers' Auto classes ▶ the classes of this package.

Both imports take seconds. So neither starts the other: the classes are registered when both are there.
"""

import sys
from collections.abc import Callable
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from typing import Any

CONFIGS = "transformers.models.auto.configuration_auto"
MODELS = "transformers.models.auto.modeling_auto"
TOKENIZERS = "transformers.models.auto.tokenization_auto"
OURS = "liquidlm.model.pretrained"

NEEDED = {
    "transformers.modeling_utils": "PreTrainedModel",
    "transformers.generation.utils": "GenerationMixin",
    "transformers.modeling_layers": "GradientCheckpointingLayer",
    OURS: "LiquidTextGenerationModel",
}
"""Modules that the models need, each with the name that it has once its import is complete."""


def register_config() -> None:
    """`AutoConfig` finds `LiquidConfig`, once `AutoConfig` is imported."""
    if CONFIGS in sys.modules:
        config = import_module("liquidlm.model.config").LiquidConfig
        sys.modules[CONFIGS].AutoConfig.register(config.model_type, config, exist_ok=True)


def register_tokenizer() -> None:
    """`AutoTokenizer` finds `LiquidTokenizer`, once `AutoTokenizer` is imported."""
    if TOKENIZERS in sys.modules:
        register_config()
        config = import_module("liquidlm.model.config").LiquidConfig
        ours = import_module("liquidlm.text.chat").LiquidTokenizer
        sys.modules[TOKENIZERS].AutoTokenizer.register(config, fast_tokenizer_class=ours, exist_ok=True)


def register_models() -> None:
    """`AutoModel` and `AutoModelForCausalLM` find the models, once they are imported.

    It does nothing within the import of a module that it needs; the end of that import calls it again.
    """
    if MODELS not in sys.modules or any(_is_partial(name, last) for name, last in NEEDED.items()):
        return
    register_config()
    auto, config = sys.modules[MODELS], import_module("liquidlm.model.config").LiquidConfig
    ours = import_module(OURS)
    body, model = ours.LiquidModel, ours.LiquidTextGenerationModel
    auto.AutoModel.register(config, body, exist_ok=True)
    auto.AutoModelForCausalLM.register(config, model, exist_ok=True)
    # Trainer knows by these names which models shift the labels.
    auto.MODEL_MAPPING_NAMES[config.model_type] = body.__name__
    auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[config.model_type] = model.__name__


def _is_partial(module: str, last: str) -> bool:
    return module in sys.modules and not hasattr(sys.modules[module], last)


AFTER: dict[str, Callable[[], None]] = {
    CONFIGS: register_config,
    MODELS: register_models,
    TOKENIZERS: register_tokenizer,
    **dict.fromkeys(NEEDED, register_models),
}


class AfterImport(MetaPathFinder):
    """Calls a function at the end of the import of a module."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """The module's own spec, whose loader calls the function of AFTER at its end."""
        if fullname not in AFTER:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_register(module: Any) -> None:
                execute(module)
                AFTER[fullname]()

            spec.loader.exec_module = execute_and_register
        return spec


def register() -> None:
    """Register what is imported already now, and the rest at the end of its import."""
    sys.meta_path.insert(0, AfterImport())
    register_config()
    register_tokenizer()
    register_models()
