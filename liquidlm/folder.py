"""Models and checkpoints on disk: written whole or not at all, checked when read."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError

from .errors import LiquidError, first_line
from .model import LiquidTextGenerationModel
from .pretrained import shipped_models
from .tokenizer import LEDTokenizerWrapper

MANIFEST = "checksums.json"


def write_folder(folder: Path, fill: Callable[[Path], None]) -> None:
    """Make `folder` out of what `fill` writes, with a checksum of every file, atomically.

    An interruption at any moment leaves the old folder or the new one, never a half.
    """
    part = folder.with_name(f".{folder.name}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        fill(part)
        _write_manifest(part)
        if folder.exists():
            remove_folder(folder)
        part.replace(folder)
    except BaseException as error:
        shutil.rmtree(part, ignore_errors=True)
        if isinstance(error, OSError | SafetensorError):
            raise cannot_write(folder, error) from error
        raise


def remove_folder(folder: Path) -> None:
    """Delete a folder so that it is never seen half there."""
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    folder.replace(old)
    shutil.rmtree(old, ignore_errors=True)


def merge_into(folder: Path, fill: Callable[[Path], None]) -> None:
    """Put what `fill` writes into `folder` beside what is there, file by file, the manifest last."""
    part = folder / ".export.part"
    write_folder(part, fill)
    try:
        (folder / MANIFEST).unlink(missing_ok=True)
        for file in sorted(part.iterdir(), key=lambda file: file.name == MANIFEST):
            os.replace(file, folder / file.name)
        part.rmdir()
    except OSError as error:
        raise cannot_write(folder, error) from error


def cannot_write(path: Path, error: Exception) -> LiquidError:
    reason = getattr(error, "strerror", None) or str(error)
    return LiquidError(f"cannot write {path}: {reason}; free some space or choose another --out")


def _write_manifest(folder: Path) -> None:
    sums = {file.name: _checksum(file) for file in sorted(folder.iterdir())}
    (folder / MANIFEST).write_text(json.dumps(sums, indent=1))


def _checksum(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def verify(folder: Path) -> None:
    """LiquidError that names the file if one of `folder` is missing or not as it was written."""
    try:
        sums = json.loads((folder / MANIFEST).read_text())
        damaged = [name for name, value in sums.items() if _checksum(folder / name) != value]
    except (OSError, ValueError, AttributeError) as error:
        missing = getattr(error, "filename", None) or folder / MANIFEST
        raise LiquidError(f"{missing} is missing or damaged: {folder} was not written completely") from error
    if damaged:
        raise LiquidError(f"{folder / damaged[0]} is damaged: it is not as it was written")


def is_whole(folder: Path) -> bool:
    """Whether `folder` is there as it was written."""
    try:
        verify(folder)
    except LiquidError:
        return False
    return True


def save_model(folder: Path, model: LiquidTextGenerationModel, tokenizer: LEDTokenizerWrapper) -> None:
    """Write weights, configuration and tokenizer as transformers reads them."""
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
        model, info = LiquidTextGenerationModel.from_pretrained(
            folder, dtype=torch.float32, output_loading_info=True
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError, StrictDataclassError) as error:
        if isinstance(error, LiquidError):
            raise
        raise LiquidError(f"the model in {folder} cannot be read: {first_line(error)}") from error
    if names := info["unexpected_keys"]:
        raise LiquidError(f"the model in {folder} has weights of another model: {sorted(names)[0]}, …")
    tokenizer = LEDTokenizerWrapper(str(folder))
    if tokenizer.vocab_size > model.config.vocab_size:
        raise LiquidError(
            f"the tokenizer in {folder} has {tokenizer.vocab_size} tokens, the model"
            f" {model.config.vocab_size}: they do not belong together"
        )
    return model.eval().to(device or torch.device("cpu")), tokenizer  # pyright: ignore[reportArgumentType]


def find_folder(name: str | Path) -> Path:
    """The folder of that path, or of the model of that name that comes with the package."""
    if Path(name).is_dir():
        return Path(name)
    shipped = shipped_models()
    if str(name) not in shipped:
        names = " or ".join(["the --out folder of `liquidlm train`", *shipped])
        raise LiquidError(f"{name} is not a folder: give {names}")
    return shipped[str(name)]


def checkpoint_folder(run: Path, step: int) -> Path:
    return run / "checkpoints" / f"step-{step:08}"


def step_of(checkpoint: Path) -> int:
    """The step at which a checkpoint was taken."""
    return int(checkpoint.name.removeprefix("step-"))


def checkpoints(run: Path) -> list[Path]:
    """A run's checkpoints, the newest first."""
    found = (run / "checkpoints").glob("step-*")
    return sorted((path for path in found if path.is_dir()), reverse=True)


def newest_whole(steps: list[Path]) -> tuple[Path, list[str]]:
    """The newest undamaged checkpoint, and what is wrong with each newer one."""
    wrong = []
    for step in steps:
        try:
            verify(step)
        except LiquidError as error:
            wrong.append(str(error))
        else:
            return step, wrong
    raise LiquidError(f"no whole checkpoint is left: {wrong[0]}")
