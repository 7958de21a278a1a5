"""`liquidlm info`: what is installed here, or what is in a model's folder."""

import json
from typing import Annotated

import typer

from ..inference.model_folders import check_model
from .arguments import FOLDER_HELP, AsJson
from .model_imports import import_models

Folder = Annotated[
    str | None,
    typer.Argument(metavar="[DIR]", help=f"{FOLDER_HELP} Default: this installation."),
]

LABELS = {
    "num_hidden_layers": "layers",
    "embedding_dim": "embedding size",
    "latent_dim": "size after the flow",
    "vocab_size": "vocabulary",
    "state_bytes_per_text": "state of one text",
    "learned_times": "trained with times",
    "tokens": "tokens read",
    "passes": "passes over the text",
    "minutes": "training time",
    "hours": "training time",
    "settings_that_differ": "settings changed",
    "figures": "losses",
    "train_bits_per_byte": "training",
    "valid_bits_per_byte": "held-out sample",
    "final_bits_per_byte": "all held-out text",
}
"""Names of facts in words, where the name itself is not plain. `--json` keeps the names."""
UNITS = {"state_bytes_per_text": "bytes", "minutes": "minutes", "hours": "hours"}
LOSS = "_bits_per_byte"


def info(folder: Folder = None, as_json: AsJson = False) -> None:
    """Show versions and the device, or the facts of a model.

    For a model, it shows the sizes, parameters, tokenizer, size of the state, how the model was trained, and
    its losses.

        liquidlm info

        liquidlm info runs/novel --json
    """
    found = None if folder is None else check_model(folder)
    import_models()
    from .facts import installation, model_facts

    facts = installation() if found is None else model_facts(found)
    if as_json:
        print(json.dumps(facts))
        return
    width = max(len(_label(name)) for name in facts)
    for name, value in facts.items():
        shown = _losses(value) if name == "figures" else _with_unit(name, value)
        print(f"{_label(name):{width}}  {shown}")


def _label(name: str) -> str:
    """The name of a fact in words."""
    return LABELS.get(name, name.removesuffix(LOSS).replace("_", " ").replace("held out", "held-out"))


def _with_unit(name: str, value: object) -> str:
    """A fact and its unit."""
    unit = "bits per byte" if name.endswith(LOSS) else UNITS.get(name, "")
    return f"{_plain(value)} {unit}".rstrip()


def _losses(figures: dict[str, object]) -> str:
    """The losses of a model, each with its name and unit."""
    told = (f"{_label(name)} {_with_unit(name, value)}" for name, value in figures.items())
    return ", ".join(told) or "unknown"


def _plain(value: object) -> str:
    """A fact as people read it."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "unknown"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(each)}" for name, each in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(map(_plain, value)) or "none"
    return str(value)
