"""Which model `liquidlm generate` takes, and where the prompt comes from."""

import os
import sys
from pathlib import Path

from ..errors import LiquidError
from ..pretrained import STORIES, shipped_models


def model_and_prompt(first: str | None, second: str | None) -> tuple[str, str | None]:
    """The model and the prompt of one or two arguments.

    One argument alone is the prompt of the bundled model, unless it names a model or is spelt as a path.
    """
    if first is not None and (second is not None or _is_model(first)):
        return first, second
    print(f"{STORIES}, the model that comes with liquidlm, writes", file=sys.stderr)
    return STORIES, first


def _is_model(word: str) -> bool:
    spelt_as_path = len(word.split()) == 1 and any(mark in word for mark in "/\\")
    return spelt_as_path or word in shipped_models() or os.path.isdir(word)


def read_prompt(prompt: str | None, file: Path | None, piped: bool) -> str:
    """The prompt: the argument, the text of `file`, or standard input where it is `piped` to.

    Raises:
        LiquidError: two prompts, or bytes that are not UTF-8.
    """
    if file is not None:
        from ..text.corpus import read_documents

        if prompt is not None:
            raise LiquidError("give the prompt once: as an argument or with --file")
        return "\n".join(document.text for document in read_documents([file]))
    if prompt == "-" or (prompt is None and piped and not sys.stdin.isatty()):
        try:
            return sys.stdin.buffer.read().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise LiquidError(f"standard input is not UTF-8 text: byte {error.start} is wrong") from None
    try:  # what the locale could not decode is in the prompt as it was given
        return (prompt or "").encode("utf-8", "surrogateescape").decode("utf-8")
    except UnicodeDecodeError:
        raise LiquidError("the prompt is not UTF-8 text") from None
