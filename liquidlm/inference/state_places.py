"""State files of the command line, checked without torch: where one may be written, and whether it is one."""

import os
from pathlib import Path

from ..errors import LiquidError
from ..nn.state_header import open_state
from ..runtime.files import probe

GENERATE, WATCH, LEARN = "generate", "watch", "learn"
"""The commands that write state files; LEARN is `watch --learn`."""
WRITERS = {
    GENERATE: "a state that `generate --save-state` wrote: continue with `generate --load-state`",
    WATCH: "a state that `watch --state` wrote: continue with `watch --state`, without --learn",
    LEARN: "a state that `watch --learn` wrote, with the weights that it learned: continue with `watch"
    " --learn --state`",
    None: "a state that neither `generate --save-state` nor `watch --state` wrote: LiquidCache.load reads it",
}
"""Which command reads the states of which."""


def writer_of(metadata: dict[str, str]) -> str | None:
    """The command that wrote a state. Older files have no such entry: their other entries show it."""
    old = WATCH if "watched" in metadata else GENERATE if "pending" in metadata else None
    return metadata.get("writer", old)


def check_place(path: Path, writer: str) -> None:
    """Check that a state can be written to `path`, and that no other file would be overwritten.

    Args:
        path: the file.
        writer: the command that writes, GENERATE, WATCH or LEARN.

    Raises:
        LiquidError: it cannot be written, is the standard output, or is not a state of `writer`.
    """
    probe(path)
    if not path.is_file() or path.stat().st_size == 0:
        return
    for stream in (1, 2):
        if os.path.samestat(path.stat(), os.fstat(stream)):
            raise LiquidError(f"the output is written to {path}: choose another file for the state")
    try:
        found = _writer(path)
    except LiquidError as error:
        raise LiquidError(
            f"{path} is not a readable liquid state and would be overwritten: choose another file, or delete"
            " it"
        ) from error
    if found not in (writer, None):
        raise LiquidError(f"{path} is {WRITERS[found]}; it would be overwritten: choose another file")


def check_state(path: str | Path, writer: str) -> None:
    """Check that a file is a state of `writer`. `state_files.load` then checks that it fits the model.

    Raises:
        LiquidError: the file is missing or damaged, or of another command.
    """
    if (found := _writer(path)) != writer:
        raise LiquidError(f"{path} is {WRITERS[found]}")


def _writer(path: str | Path) -> str | None:
    with open_state(path) as (_, metadata):
        return writer_of(metadata)
