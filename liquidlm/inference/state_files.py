"""State files of the command line: a state with the command that wrote it, its model and its tokenizer."""

import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import LiquidError
from ..model.language_model import LiquidLanguageModel
from ..nn.state import LiquidCache
from ..text.tokenizer import LEDTokenizerWrapper
from .state_places import check_state

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


def save(
    path: str | Path,
    state: LiquidCache,
    writer: str,
    model: LiquidLanguageModel,
    tokenizer: LEDTokenizerWrapper,
    **more: str,
) -> None:
    """Write a state file for `load`.

    Args:
        path: the file; replaced all or nothing.
        state: the state.
        writer: GENERATE or WATCH.
        model: the model of the state.
        tokenizer: its tokenizer.
        more: further entries, which `load` returns.

    Raises:
        LiquidError: the file cannot be written.
    """
    of = {"writer": writer, "model": fingerprint(model), "tokenizer": vocabulary(tokenizer)}
    state.save(path, **of, **more)


def load(
    path: str | Path, writer: str, model: LiquidLanguageModel, tokenizer: LEDTokenizerWrapper
) -> tuple[LiquidCache, dict[str, str]]:
    """Read a state file.

    Args:
        path: the file.
        writer: the command that must have written it, GENERATE or WATCH.
        model: the model that it must be of.
        tokenizer: its tokenizer.

    Returns:
        the state, and all entries of the file.

    Raises:
        LiquidError: the file is missing or damaged, or of another command, model or tokenizer.
    """
    check_state(path, writer)
    state, metadata = LiquidCache.load(path, len(model.blocks))
    if metadata.get("model") != fingerprint(model):
        raise LiquidError(
            f"{path} is the state of another model, or of this model before further training: give the folder"
            " that it was made with, or begin a new state"
        )
    if metadata.get("tokenizer", vocabulary(tokenizer)) != vocabulary(tokenizer):  # older files have no entry
        raise LiquidError(
            f"{path} is the state of a model with another tokenizer: give the folder that it was made with"
        )
    return state, metadata


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Lock a state file for this process for a `with` block, where the system has locks.

    Raises:
        LiquidError: another process has locked it.
    """
    if fcntl is None or not (path.is_file() or not path.exists()):
        yield
        return
    lock = path.with_name(f".{path.name[:200]}.lock")
    with lock.open("ab") as held:  # an existing file of this name is not changed
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LiquidError(f"{path} is in use by another `watch`: give each one its own file") from None
        except OSError:  # the file system has no locks
            pass
        try:
            yield
        finally:
            if os.fstat(held.fileno()).st_size == 0:
                lock.unlink(missing_ok=True)


def fingerprint(model: LiquidLanguageModel) -> str:
    """CRC-32 of the weights, so that a state is not read into another model."""
    total = 0
    for parameter in model.parameters():
        total = zlib.crc32(parameter.detach().float().cpu().numpy().tobytes(), total)
    return f"{total:08x}"


def vocabulary(tokenizer: LEDTokenizerWrapper) -> str:
    """CRC-32 of the tokenizer."""
    return f"{zlib.crc32(tokenizer.backend.backend_tokenizer.to_str().encode()):08x}"
