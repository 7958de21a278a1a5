"""Models and checkpoints on disk."""

import warnings
from pathlib import Path
from typing import cast

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import GenerationConfig

from ..errors import LiquidError, first_line
from ..model.language_model import LiquidTextGenerationModel
from ..pretrained import shipped_models
from ..runtime.checksums import MANIFEST, verify
from ..text.tokenizer import LEDTokenizerWrapper
from .checkpoints import checkpoints, newest_whole


def save_model(folder: Path, model: LiquidTextGenerationModel, tokenizer: LEDTokenizerWrapper) -> None:
    """Write weights, configuration and tokenizer as transformers reads them."""
    mask_surplus(model, tokenizer)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def load_model(
    folder: str | Path, device: torch.device | None = None
) -> tuple[LiquidTextGenerationModel, LEDTokenizerWrapper]:
    """The model and tokenizer of a run's folder, or of any folder that `save_pretrained` wrote, in float32.

    Of an unfinished run the newest whole checkpoint is taken. Where there is no such folder, it may be the
    name of a model that comes with the package, such as "stories".

    Raises:
        LiquidError: no such folder, no model in it, a damaged file, or a tokenizer of another vocabulary.
    """
    folder = find_folder(folder)
    if not (folder / "config.json").exists():
        steps = checkpoints(folder)
        if not steps:
            raise LiquidError(f"{folder} holds no model: give the --out folder of `liquidlm train`")
        folder = newest_whole(steps)[0]
    if (folder / MANIFEST).exists():
        verify(folder)
    try:
        with warnings.catch_warnings(action="ignore"):  # of weights that begin anew: an error, below
            model, info = LiquidTextGenerationModel.from_pretrained(
                folder, dtype=torch.float32, output_loading_info=True
            )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError, StrictDataclassError) as error:
        if isinstance(error, LiquidError):
            raise
        raise LiquidError(f"the model in {folder} cannot be read: {first_line(error)}") from error
    if names := info["missing_keys"]:
        raise LiquidError(f"the model in {folder} lacks weights: {sorted(names)[0]}, …")
    if names := info["unexpected_keys"]:
        raise LiquidError(f"the model in {folder} has weights of another model: {sorted(names)[0]}, …")
    tokenizer = LEDTokenizerWrapper(str(folder))
    if tokenizer.vocab_size > model.config.vocab_size:
        raise LiquidError(
            f"the tokenizer in {folder} has {tokenizer.vocab_size} tokens, the model"
            f" {model.config.vocab_size}: they do not belong together"
        )
    mask_surplus(model, tokenizer)
    return model.eval().to(device or torch.device("cpu")), tokenizer  # pyright: ignore[reportArgumentType]


def mask_surplus(model: LiquidTextGenerationModel, tokenizer: LEDTokenizerWrapper) -> None:
    """The model writes no id that the tokenizer has no token for (a table may have more rows than there are):
    by its generation_config, which `generate()` and all that writes here keep to."""
    surplus = set(range(tokenizer.vocab_size, model.config.vocab_size))
    config = cast(GenerationConfig, model.generation_config)
    if surplus:
        config.suppress_tokens = sorted(surplus.union(config.suppress_tokens or ()))


def find_folder(name: str | Path) -> Path:
    """The folder of that path, or of the model of that name that comes with the package."""
    if Path(name).is_dir():
        return Path(name)
    shipped = shipped_models()
    if str(name) not in shipped:
        names = " or ".join(["the --out folder of `liquidlm train`", *shipped])
        raise LiquidError(f"{name} is not a folder: give {names}")
    return shipped[str(name)]
