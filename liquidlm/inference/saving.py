"""Models in folders: save them, load them, find them by name."""

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
from .hub_models import HUB_PREFIX, downloaded_model


def save_model(folder: Path, model: LiquidTextGenerationModel, tokenizer: LEDTokenizerWrapper) -> None:
    """Write weights, configuration and tokenizer into a folder, in the format of transformers.

    Args:
        folder: is made if it does not exist.
        model: the model.
        tokenizer: its tokenizer.
    """
    mask_surplus(model, tokenizer)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def load_model(
    folder: str | Path, device: torch.device | None = None
) -> tuple[LiquidTextGenerationModel, LEDTokenizerWrapper]:
    """Load a model and its tokenizer, in float32 and in evaluation mode.

    Args:
        folder: the --out folder of `liquidlm train`, a folder that `save_model` or `save_pretrained` wrote,
            the name of a bundled model, such as "stories", or `hf:USER/NAME`, a model on the Hugging Face
            hub. Of a run that is not finished, the newest undamaged checkpoint is loaded.
        device: where the model computes; None is the CPU.

    Returns:
        model and tokenizer.

    Raises:
        LiquidError: the folder does not exist or has no model, a file is damaged, weights are missing or
            too many, or the tokenizer does not belong to the model.

    Example:
        >>> model, tokenizer = load_model("stories")
        >>> model.training, tokenizer.vocab_size <= model.config.vocab_size
        (False, True)
        >>> load_model("nowhere")
        Traceback (most recent call last):
            ...
        liquidlm.errors.LiquidError: nowhere is not a folder or a bundled model: give the --out folder of
        `liquidlm train` or stories, or hf:USER/NAME for a model on the hub
    """
    folder = model_folder(folder)
    if (folder / MANIFEST).exists():
        verify(folder)
    try:
        with warnings.catch_warnings(action="ignore"):  # about missing weights: an error, below
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
    """Keep a model from writing ids that are not in its tokenizer (its table may have more rows).

    The ids are in `generation_config.suppress_tokens`, which `generate()` and this package respect.
    """
    surplus = set(range(tokenizer.vocab_size, model.config.vocab_size))
    config = cast(GenerationConfig, model.generation_config)
    if surplus:
        config.suppress_tokens = sorted(surplus.union(config.suppress_tokens or ()))


def model_folder(name: str | Path) -> Path:
    """The folder that holds a model's files: `find_folder`'s, or its newest whole checkpoint if the run is
    unfinished.

    Raises:
        LiquidError: there is no such folder, or no model in it.
    """
    folder = find_folder(name)
    if (folder / "config.json").exists():
        return folder
    steps = checkpoints(folder)
    if not steps:
        raise LiquidError(f"{folder} holds no model: give the --out folder of `liquidlm train`")
    return newest_whole(steps)[0]


def find_folder(name: str | Path) -> Path:
    """The folder of a model, by its path, by the name of a bundled model, or by `hf:USER/NAME`, a model on
    the Hugging Face hub, which is downloaded.

    Raises:
        LiquidError: there is none of these.
    """
    if Path(name).is_dir():
        return Path(name)
    if str(name).startswith(HUB_PREFIX):
        return downloaded_model(str(name))
    shipped = shipped_models()
    if str(name) not in shipped:
        names = " or ".join(["the --out folder of `liquidlm train`", *shipped])
        raise LiquidError(
            f"{name} is not a folder or a bundled model: give {names}, or hf:USER/NAME for a model on the hub"
        )
    return shipped[str(name)]
