"""State files of `watch --learn`: what `watch` keeps, and what the learner has."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..errors import LiquidError
from ..inference.state_places import LEARN
from ..model.config import LiquidConfig
from ..model.language_model import LiquidLanguageModel
from ..runtime.files import write_file
from ..text.tokenizer import LEDTokenizerWrapper

FRESH = ""
"""The origin of a model that was random before it learned; of another, it is its fingerprint."""


def write(path: str | Path, kept: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Write a state file, all or nothing.

    Raises:
        LiquidError: it cannot be written.
    """
    header = {"liquid_state": json.dumps({"writer": LEARN, **kept})}
    write_file(path, lambda part: save_file(tensors, part, header))


def read(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What `write` was given.

    Raises:
        LiquidError: the file is missing, damaged or of another kind.
    """
    kept = _header(path)
    try:
        with safe_open(path, "pt") as file:
            return kept, {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError) as error:
        raise damaged(path) from error


def model_of(path: str | Path, device: torch.device) -> tuple[LiquidLanguageModel, LEDTokenizerWrapper]:
    """A model of the sizes of a state that began without one, with random weights, and its tokenizer.

    Raises:
        LiquidError: the state began with a model, or the file cannot be read.
    """
    kept = _header(path)
    try:
        begun_with_one = kept["origin"] != FRESH
        config = LiquidConfig.from_dict(json.loads(kept["config"]))
    except (KeyError, ValueError, TypeError) as error:
        raise damaged(path) from error
    if begun_with_one:
        raise LiquidError(f"{path} has learned from a model: name the folder that it began with")
    return LiquidLanguageModel.of(config).eval().to(device), LEDTokenizerWrapper.bytes()


def damaged(path: str | Path) -> LiquidError:
    """The error for a file that is not what `write` wrote."""
    return LiquidError(f"{path} is not a readable liquid state (damaged, or another file)")


def _header(path: str | Path) -> dict[str, Any]:
    try:
        with safe_open(path, "pt") as file:
            kept = json.loads((file.metadata() or {})["liquid_state"])
        if kept["writer"] != LEARN:
            raise ValueError("of another command")
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise damaged(path) from error
    return kept
