"""Models in folders: save them, load them. `model_folders.py` finds them by name."""

import json
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import GenerationConfig
from transformers.utils import (
    CONFIG_NAME,
    GENERATION_CONFIG_NAME,
    SAFE_WEIGHTS_INDEX_NAME,
    SAFE_WEIGHTS_NAME,
    logging,
)

from ..errors import LiquidError, first_line
from ..model.config import LiquidConfig
from ..model.language_model import LiquidLanguageModel
from ..model.packed import QUANTIZATION, check_types, pack, stored_types, unpack
from ..runtime.checksums import MANIFEST, verify
from ..text.tokenizer import LEDTokenizerWrapper
from .model_folders import model_folder

if TYPE_CHECKING:
    from ..model.pretrained import LiquidTextGenerationModel

Model = TypeVar("Model", bound=LiquidLanguageModel)


@contextmanager
def _no_progress_bar() -> Iterator[None]:
    """Turns off the progress bars of transformers: the files are local, and few."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


@_no_progress_bar()
def save_model(folder: Path, model: "LiquidTextGenerationModel", tokenizer: LEDTokenizerWrapper) -> None:
    """Write weights, configuration and tokenizer into a folder, in the format of transformers.

    Args:
        folder: is made if it does not exist.
        model: the model.
        tokenizer: its tokenizer.
    """
    mask_surplus(model, tokenizer)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@_no_progress_bar()
def save_int8_model(folder: Path, model: "LiquidTextGenerationModel", tokenizer: LEDTokenizerWrapper) -> None:
    """As `save_model`, but with matrices in int8: the file has about a quarter of the size of float32.

    `load_model`, the commands and `from_pretrained` read both.

    Args:
        folder: is made if it does not exist.
        model: in float32, the model.
        tokenizer: its tokenizer.

    Raises:
        LiquidError: a weight is not finite.
    """
    mask_surplus(model, tokenizer)
    tied = model.all_tied_weights_keys
    weights = {name: weight for name, weight in model.state_dict().items() if name not in tied}
    model.save_pretrained(folder, state_dict=pack(weights))
    tokenizer.save_pretrained(folder)
    file = folder / CONFIG_NAME
    config = {**json.loads(file.read_text(encoding="utf-8")), "quantization_config": QUANTIZATION}
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def load_model(
    folder: str | Path, device: torch.device | None = None
) -> tuple["LiquidTextGenerationModel", LEDTokenizerWrapper]:
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
        `liquidlm train`, cuentos, stories, or hf:USER/NAME for a model on the hub
    """
    from ..model.pretrained import LiquidTextGenerationModel

    folder = model_folder(folder)
    # A warning of new weights is an error, below.
    with _readable(folder), _no_progress_bar(), warnings.catch_warnings(action="ignore"):
        model, info = LiquidTextGenerationModel.from_pretrained(
            folder, dtype=torch.float32, output_loading_info=True
        )
    _check_complete(folder, info["missing_keys"], info["unexpected_keys"])
    return _with_tokenizer(folder, model, device)


def load_language_model(
    folder: str | Path, device: torch.device | None = None
) -> tuple[LiquidLanguageModel, LEDTokenizerWrapper]:
    """As `load_model`, but without what only transformers needs, whose import takes seconds.

    >>> model, tokenizer = load_language_model("stories")
    >>> model(tokenizer.tokenize("Once upon a time")[0]).logits.shape[-1] == tokenizer.vocab_size
    True
    """
    folder = model_folder(folder)
    with _readable(folder):
        model = LiquidLanguageModel.of(LiquidConfig.from_pretrained(folder))
        if (folder / GENERATION_CONFIG_NAME).exists():
            model.generation_config = GenerationConfig.from_pretrained(folder)
        weights = _weights(folder, model)
        _check_sizes(folder, weights, model.state_dict())
        missing, unexpected = model.load_state_dict(weights, strict=False)
    tied = {"output_proj.weight"} if model.config.tie_word_embeddings else set()
    _check_complete(folder, set(missing) - tied, unexpected)
    return _with_tokenizer(folder, model, device)


@contextmanager
def _readable(folder: Path) -> Iterator[None]:
    """Checks the checksums of a folder; what cannot be read there is one LiquidError."""
    if (folder / MANIFEST).exists():
        verify(folder)
    try:
        yield
    except LiquidError:
        raise
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError, StrictDataclassError) as error:
        raise LiquidError(f"the model in {folder} cannot be read: {first_line(error)}") from error


def _weights(folder: Path, model: LiquidLanguageModel) -> dict[str, torch.Tensor]:
    """The weights of a folder, in one file or in the files that its index names; int8 becomes float32."""
    files, index = {SAFE_WEIGHTS_NAME}, folder / SAFE_WEIGHTS_INDEX_NAME
    if not (folder / SAFE_WEIGHTS_NAME).exists() and index.exists():
        files = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    paths = [folder / file for file in files]
    check_types(stored_types(paths), model.state_dict())
    return unpack({name: value for path in paths for name, value in load_file(path).items()})


def _check_sizes(folder: Path, weights: dict[str, torch.Tensor], own: dict[str, torch.Tensor]) -> None:
    for name in sorted(weights.keys() & own.keys()):
        found, needed = tuple(weights[name].shape), tuple(own[name].shape)
        if found != needed:
            raise LiquidError(
                f"the weights in {folder} are not this model's: {name} is {found}, not {needed}"
            )


def _check_complete(folder: Path, missing: Collection[str], unexpected: Collection[str]) -> None:
    if missing:
        raise LiquidError(f"the model in {folder} lacks weights: {min(missing)}, …")
    if unexpected:
        raise LiquidError(f"the model in {folder} has weights of another model: {min(unexpected)}, …")


def _with_tokenizer(
    folder: Path, model: Model, device: torch.device | None
) -> tuple[Model, LEDTokenizerWrapper]:
    """The model in evaluation mode on its device, and the tokenizer of the folder."""
    tokenizer = LEDTokenizerWrapper(str(folder))
    if tokenizer.vocab_size > model.config.vocab_size:
        raise LiquidError(
            f"the tokenizer in {folder} has {tokenizer.vocab_size} tokens, the model"
            f" {model.config.vocab_size}: they do not belong together"
        )
    mask_surplus(model, tokenizer)
    return cast(Model, model.eval().to(device or torch.device("cpu"))), tokenizer


def mask_surplus(model: LiquidLanguageModel, tokenizer: LEDTokenizerWrapper) -> None:
    """Keep a model from writing ids that are not in its tokenizer (its table may have more rows).

    The ids are in `generation_config.suppress_tokens`, which `generate()` and this package respect.
    """
    surplus = set(range(tokenizer.vocab_size, model.config.vocab_size))
    config = model.generation_config
    if surplus:
        config.suppress_tokens = sorted(surplus.union(config.suppress_tokens or ()))
