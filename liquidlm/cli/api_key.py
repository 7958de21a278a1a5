"""The key that requests to `liquidlm serve` must send."""

import os
from pathlib import Path

import typer

from ..errors import LiquidError, first_line

KEY_VARIABLE = "LIQUIDLM_API_KEY"


def read_key(context: typer.Context, given: str | None, file: Path | None) -> str | None:
    """The key of --api-key, --api-key-file or the environment; None for none.

    Raises:
        LiquidError: it is empty or cannot be sent, the file cannot be read, or there are two keys.
    """
    how = context.get_parameter_source("api_key")
    source = "--api-key"
    if how is not None and how.name == "COMMANDLINE":
        seen = "anyone on this machine can see the key of --api-key in the list of processes"
        typer.echo(f"{seen}: use --api-key-file", err=True)
    elif KEY_VARIABLE in os.environ:  # an empty one is a mistake, not an open server
        given, source = os.environ[KEY_VARIABLE], f"${KEY_VARIABLE}"
    if file is not None:
        if given is not None:
            raise LiquidError(f"--api-key-file and {source} are both given: give one of them")
        given, source = _first_line(file), str(file)
    if given is None:
        return None
    if not given.strip():
        raise LiquidError(f"{source} is empty: give a key, or leave it out")
    if given != given.strip() or not given.isprintable():
        raise LiquidError(f"{source} has white space at its ends, or characters that no header can have")
    return given


def _first_line(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip().partition("\n")[0].strip()
    except (OSError, UnicodeDecodeError) as error:
        raise LiquidError(f"the key in {file} cannot be read: {first_line(error)}") from error
