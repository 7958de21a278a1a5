"""Which model `liquidlm generate` takes, and where the prompt comes from."""

import os
import sys
from pathlib import Path

from ..errors import LiquidError
from ..pretrained import STORIES, shipped_models
from ..text.reading import ReadingOptions
from ..text.utf8 import marked_encoding
from .standard_input import read_all, read_pipe

WAIT = 1.0
"""Seconds that an open pipe has, beside an argument, to bring its first bytes."""


def model_and_prompt(first: str | None, second: str | None) -> tuple[str, str | None]:
    """The model and the prompt of one or two arguments.

    One argument alone is a prompt for the default model, unless it names a model or looks like a path.
    """
    if first is not None and (second is not None or _is_model(first)):
        return first, second
    others = [name for name in shipped_models() if name != STORIES]
    which = f"a bundled model; others: {', '.join(others)}" if others else "the bundled model"
    print(f"model: {STORIES}, {which}", file=sys.stderr)
    return STORIES, first


def _is_model(word: str) -> bool:
    looks_like_path = len(word.split()) == 1 and any(mark in word for mark in "/\\")
    return looks_like_path or word in shipped_models() or os.path.isdir(word)


def is_interactive() -> bool:
    """Whether somebody types and reads: standard input and output are a terminal."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def read_prompt(
    prompt: str | None, file: Path | None, needed: bool, options: ReadingOptions | None = None
) -> str:
    """The prompt: first what is piped to standard input, then the argument or the text of `file`.

    The argument begins a new line after the pipe's text. With an argument, a file, or a state to continue
    from (not `needed`), an open pipe has WAIT seconds to bring its first bytes. A terminal is not read. The
    `options` say how `file` is read.

    Raises:
        LiquidError: an argument and a file, or bytes that are not UTF-8.
    """
    if file is not None and prompt is not None:
        raise LiquidError("there are two prompts: give the argument or --file, not both")
    if prompt == "-":
        return _decoded(read_all())
    if prompt is not None and Path(prompt).suffix and os.path.isfile(prompt):
        print(f"note: the prompt is the name of a file; --file {prompt} reads it", file=sys.stderr)
    given = _text_of(file, options) if file is not None else None if prompt is None else _as_typed(prompt)
    piped = "" if sys.stdin.isatty() else _piped(needed and given is None)
    if piped and given and not piped.endswith("\n"):
        piped += "\n"
    return piped + (given or "")


def _piped(needed: bool) -> str:
    data = read_all() if needed else read_pipe(WAIT)
    if data is None:
        print(f"standard input is open, but no text came within {WAIT:g} s: it is not read", file=sys.stderr)
    return _decoded(data or b"")


def _text_of(file: Path, options: ReadingOptions | None) -> str:
    from ..text.corpus import read_documents

    return "\n".join(document.text for document in read_documents([file], options=options))


def _decoded(data: bytes) -> str:
    encoding = marked_encoding(data)
    try:
        return data.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        name = "UTF-8" if encoding == "utf-8" else encoding
        raise LiquidError(
            f"standard input is not {name} text: byte {error.start} is wrong; convert it to UTF-8"
        ) from None


def _as_typed(prompt: str) -> str:
    """An argument as its bytes were, which the locale may not have decoded."""
    try:
        return prompt.encode("utf-8", "surrogateescape").decode("utf-8")
    except UnicodeDecodeError:
        raise LiquidError("the prompt is not UTF-8 text: type it in a terminal that uses UTF-8") from None
