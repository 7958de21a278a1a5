"""State files of the command line: a state, which command wrote it, and of which model and tokenizer."""

import json
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError, safe_open

from ..errors import LiquidError
from ..model.language_model import LiquidTextGenerationModel
from ..nn.state import LiquidCache
from ..runtime.files import probe
from ..text.tokenizer import LEDTokenizerWrapper

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

GENERATE, WATCH = "generate", "watch"
"""Who writes them."""
WRITERS = {
    GENERATE: "a state that `generate --save-state` wrote: go on with `generate --load-state`",
    WATCH: "a state that `watch --state` wrote: go on with `watch --state`",
    None: "a state that neither `generate --save-state` nor `watch --state` wrote: LiquidCache.load reads it",
}


def save(
    path: str | Path,
    state: LiquidCache,
    writer: str,
    model: LiquidTextGenerationModel,
    tokenizer: LEDTokenizerWrapper,
    **more: str,
) -> None:
    """Write a state for `load`, with `more` beside it; LiquidError if the file cannot be written."""
    of = {"writer": writer, "model": fingerprint(model), "tokenizer": vocabulary(tokenizer)}
    state.save(path, **of, **more)


def load(
    path: str | Path, writer: str, model: LiquidTextGenerationModel, tokenizer: LEDTokenizerWrapper
) -> tuple[LiquidCache, dict[str, str]]:
    """A state that this writer has saved, and what is beside it.

    Raises:
        LiquidError: no such file, a damaged one, or one of another writer, model or tokenizer; it says which,
            and where that belongs.
    """
    state, metadata = LiquidCache.load(path, len(model.blocks))
    if (found := _writer(metadata)) != writer:
        raise LiquidError(f"{path} is {WRITERS[found]}")
    if metadata.get("model") != fingerprint(model):
        raise LiquidError(
            f"{path} is the state of another model than the one in this folder, or of this one before it"
            " learned more: give the folder that it was made with, or begin a new state"
        )
    if metadata.get("tokenizer", vocabulary(tokenizer)) != vocabulary(tokenizer):  # old ones do not say
        raise LiquidError(
            f"{path} is the state of a model with another tokenizer: give the folder that it was made with"
        )
    return state, metadata


def _writer(metadata: dict[str, str]) -> str | None:
    """Who wrote a state; those of before do not say, but what is in them does."""
    old = WATCH if "watched" in metadata else GENERATE if "pending" in metadata else None
    return metadata.get("writer", old)


def check_place(path: Path, writer: str) -> None:
    """LiquidError before anything is read, if no state can be written there, or if something else that is
    there would be lost."""
    probe(path)
    if not path.is_file() or path.stat().st_size == 0:
        return
    for stream in (1, 2):
        if os.path.samestat(path.stat(), os.fstat(stream)):
            raise LiquidError(f"{path} is where the output goes: choose another file for the state")
    try:
        with safe_open(path, "pt") as file:
            found = _writer(json.loads((file.metadata() or {})["liquid_state"]))
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise LiquidError(
            f"{path} is not a readable liquid state, and would be lost: choose another file, or delete it"
        ) from error
    if found not in (writer, None):
        raise LiquidError(f"{path} is {WRITERS[found]}; it would be lost: choose another file")


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Have a state file for this process, where files can be locked.

    Raises:
        LiquidError: another process has it.
    """
    if fcntl is None or not (path.is_file() or not path.exists()):
        yield
        return
    lock = path.with_name(f".{path.name[:200]}.lock")
    with lock.open("ab") as held:  # whatever has this name stays as it is
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LiquidError(
                f"{path} is in use: another `watch` writes it; give each one of its own"
            ) from None
        except OSError:  # a disk that knows no locks
            pass
        try:
            yield
        finally:
            if os.fstat(held.fileno()).st_size == 0:
                lock.unlink(missing_ok=True)


def fingerprint(model: LiquidTextGenerationModel) -> str:
    """A checksum of the weights, so that a state is not read into another model."""
    total = 0
    for parameter in model.parameters():
        total = zlib.crc32(parameter.detach().float().cpu().numpy().tobytes(), total)
    return f"{total:08x}"


def vocabulary(tokenizer: LEDTokenizerWrapper) -> str:
    """A checksum of the tokenizer."""
    return f"{zlib.crc32(tokenizer.backend.backend_tokenizer.to_str().encode()):08x}"
