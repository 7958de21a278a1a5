"""Models on the Hugging Face hub: `hf:USER/NAME` becomes a folder on this machine."""

from pathlib import Path

from ..errors import LiquidError, first_line
from ..runtime.checksums import MANIFEST

HUB_PREFIX = "hf:"
FILES = ("*.safetensors", "*.json", "*.jinja", "*.txt")
"""Files of a model and its tokenizer. Code and pickled weights are not downloaded."""


def downloaded_model(name: str) -> Path:
    """The folder of a model that `push_to_hub` or `hf upload` has put on the hub.

    It is downloaded once and kept in Hugging Face's cache.

    Args:
        name: `hf:USER/NAME`, or `hf:USER/NAME@REVISION`.

    Raises:
        LiquidError: there is no such model, or no network and no copy in the cache.
    """
    from huggingface_hub import snapshot_download

    repository, _, revision = name.removeprefix(HUB_PREFIX).partition("@")
    try:
        folder = snapshot_download(
            repository, revision=revision or None, allow_patterns=list(FILES), ignore_patterns=[MANIFEST]
        )
    except Exception as error:  # network, hub and cache have many errors
        raise LiquidError(
            f"{name} cannot be downloaded ({first_line(error)}): check the name and the network, or give a"
            " folder"
        ) from error
    return Path(folder)
