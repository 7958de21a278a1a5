"""A folder or a name on the Hugging Face hub ▶ a tokenizer. Only data is read: no code, no pickle."""

import contextlib
from os import PathLike
from pathlib import Path

from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import LocalEntryNotFoundError
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel

from ..errors import LiquidError

FILES = (["tokenizer.json"], ["vocab.json", "merges.txt"])
"""The files of a tokenizer: one of these lists, the first if both are there."""
HELP = (
    "pass a folder with tokenizer.json or vocab.json + merges.txt, or make a tokenizer with "
    "LEDTokenizerWrapper.bytes() or LEDTokenizerWrapper.train(texts, vocab_size)"
)
"""The end of each message about a tokenizer that cannot be used."""
HUB_SECONDS = 10.0
"""Time limit of the question to the hub; without a network, the download itself would retry for a minute."""


def load_tokenizer(name: str | PathLike[str]) -> Tokenizer:
    """The tokenizer of a folder, or else of a name on the hub. Files in the hub's cache are used as they are.

    Raises:
        LiquidError: there is no tokenizer of this name, or its files cannot be read.
    """
    return _read(_find(name))


def _find(name: str | PathLike[str]) -> list[Path]:
    folder = Path(name)
    if not folder.is_dir():
        return _find_on_hub(str(name))
    for files in FILES:
        if all((folder / file).is_file() for file in files):
            return [folder / file for file in files]
    raise LiquidError(f"no tokenizer in the folder {str(name)!r}; {HELP}")


def _find_on_hub(name: str) -> list[Path]:
    """The files in the hub's local cache; they are downloaded if they are not there."""
    try:
        for files in FILES:
            with contextlib.suppress(LocalEntryNotFoundError):
                return [Path(hf_hub_download(name, file, local_files_only=True)) for file in files]
        listing = HfApi().model_info(name, timeout=HUB_SECONDS).siblings or []
        has_json = any(entry.rfilename == "tokenizer.json" for entry in listing)
        return [Path(hf_hub_download(name, file)) for file in FILES[0 if has_json else 1]]
    except Exception as error:  # network and hub have many errors; the remedies are the same for all
        raise LiquidError(
            f"{name!r} is not a folder here, and the Hugging Face hub gave no tokenizer of this name"
            f" ({type(error).__name__}); check the name and the network, or {HELP}"
        ) from error


def _read(files: list[Path]) -> Tokenizer:
    try:
        if len(files) == 1:
            return Tokenizer.from_file(str(files[0]))
        vocab, merges = BPE.read_file(*map(str, files))
        tokenizer = Tokenizer(BPE(vocab=vocab, merges=merges))
    except Exception as error:  # tokenizers raises nothing more specific
        raise LiquidError(f"{' + '.join(map(str, files))} cannot be read ({error}); {HELP}") from error
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    return tokenizer
