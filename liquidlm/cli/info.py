"""`liquidlm info`: what is installed here, or what is in a model's folder."""

import json
from typing import Annotated

import typer

from .arguments import FOLDER_HELP, AsJson

Folder = Annotated[
    str | None,
    typer.Argument(metavar="[DIR]", help=f"{FOLDER_HELP} Default: this installation."),
]


def info(folder: Folder = None, as_json: AsJson = False) -> None:
    """Show the installed versions and the device, or the data of a trained model.

    For a model, it shows the sizes, parameters, tokenizer, size of the state, how the model was trained, and
    its losses.

        liquidlm info

        liquidlm info runs/novel --json
    """
    from .facts import installation, model_facts

    facts = installation() if folder is None else model_facts(folder)
    if as_json:
        print(json.dumps(facts))
        return
    width = max(len(name) for name in facts)
    for name, value in facts.items():
        print(f"{name.replace('_', ' '):{width}}  {_plain(value)}")


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
