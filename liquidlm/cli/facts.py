"""The facts that `liquidlm info` prints: of this installation, and of a model's folder."""

import platform
from collections.abc import Sequence
from dataclasses import MISSING, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import ModelCard
from yaml import YAMLError

from .. import __version__
from ..errors import LiquidError
from ..inference.checkpoints import checkpoints, newest_undamaged
from ..inference.generate import read
from ..inference.model_folders import find_folder, model_folder
from ..inference.saving import load_language_model
from ..model.packed import is_packed, stored_types
from ..ops.native import kernels
from ..runtime.precision import best_device, bf16_is_faster
from ..text.tokenizer_training import MIN_VOCAB_SIZE
from ..training.progress import read_curve
from ..training.run_folder import CURVE
from ..training.settings import TrainSettings
from ..training.trainer_state import TrainerState

SIZES = ("hidden_size", "num_hidden_layers", "embedding_dim", "latent_dim", "vocab_size")
FIGURES = ("train_bits_per_byte", "valid_bits_per_byte", "final_bits_per_byte")
PASSES = ("passes",)
CARD = "README.md"
TYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
SHOWN_APART = ("steps", "minutes", "paths")
"""Settings that are facts of their own."""


def installation() -> dict[str, Any]:
    """Versions, device and precision that the commands use here."""
    device = best_device()
    on_gpu, loaded = device.type == "cuda", kernels()
    return {
        "liquidlm": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": version("transformers"),
        "device": device.type,
        "processor": torch.cuda.get_device_name(device) if on_gpu else _processor(),
        "threads": torch.get_num_threads(),
        "bf16": bf16_is_faster(device),
        "kernels": f"{loaded.name} ({loaded.reason})" if loaded.reason else loaded.name,
    }


def _processor() -> str:
    """The name of the CPU, as far as the system gives one."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


@torch.no_grad()
def model_facts(folder: str | Path) -> dict[str, Any]:
    """Sizes, parameters, tokenizer and state of a model, and what its folder says of its training.

    Raises:
        LiquidError: there is no readable model in the folder.
    """
    path = find_folder(folder)
    model, tokenizer = load_language_model(path)
    state = model.new_state()
    read(model, torch.tensor([[tokenizer.bos_token_id]]), state)
    return {
        "folder": str(path),
        **{name: getattr(model.config, name) for name in SIZES},
        "blocks": list(model.config.mixer_types or ()),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "stored_as": _stored(path),
        "tokenizer": "bytes" if tokenizer.vocab_size == MIN_VOCAB_SIZE else "byte-level BPE",
        "tokens_in_the_tokenizer": tokenizer.vocab_size,
        "state_bytes_per_text": state.nbytes,
        "learned_times": model.time_head is not None,
        **_training(path),
        "figures": _figures(path),
    }


def _stored(path: Path) -> str:
    """The type of the weights on disk."""
    types = stored_types(model_folder(path).glob("model*.safetensors"))
    if is_packed(types):
        return "int8, with a scale per row"
    return ", ".join(sorted({TYPES.get(kind, kind) for kind in types.values() if "F" in kind}))


def _training(path: Path) -> dict[str, Any]:
    """How a model was trained: from its newest checkpoint, or else from its card."""
    try:
        kept = TrainerState.read(newest_undamaged(checkpoints(path) or [path])[0])
    except LiquidError:
        return _of_card(path, "training")
    settings = kept.settings
    return {
        "steps": kept.step,
        "tokens": kept.step * settings.context * settings.batch_size * settings.accumulate,
        **_last_of_curve(path, PASSES),
        "minutes": round(kept.seconds / 60, 2),
        "text": settings.paths or ["the documentation of Python"],
        "settings_that_differ": _changed(settings),
    }


def _changed(settings: TrainSettings) -> dict[str, Any]:
    """The settings that are not the defaults."""
    changed = {}
    for field in fields(settings):
        factory = field.default_factory
        default = field.default if factory is MISSING else factory()
        value = getattr(settings, field.name)
        if field.name not in SHOWN_APART and value != default:
            changed[field.name] = value
    return changed


def _figures(path: Path) -> dict[str, Any]:
    """Losses of a model: the last ones in the curve of its run, or else those of its card."""
    return _last_of_curve(path, FIGURES) or _of_card(path, "figures")


def _last_of_curve(path: Path, names: Sequence[str]) -> dict[str, float]:
    """The last value of each of these figures in the curve of a run."""
    found = {}
    for entry in read_curve(path / CURVE):
        found.update({name: entry[name] for name in names if name in entry})
    return found


def _of_card(path: Path, part: str) -> dict[str, Any]:
    """A part of the metadata at the top of a model's card, README.md; nothing where there is none."""
    try:
        text = (path / CARD).read_text(encoding="utf-8")
        found = ModelCard(text, ignore_metadata_errors=True).data.to_dict().get(part)
    except (OSError, ValueError, YAMLError):
        return {}
    return found if isinstance(found, dict) else {}
