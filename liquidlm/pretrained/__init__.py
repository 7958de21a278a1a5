"""The bundled models: one folder each, with weights, tokenizer and a model card."""

from pathlib import Path

BUNDLED = Path(__file__).parent
"""Where they are. Every folder here with a config.json is a bundled model; its name is the model's."""
STORIES = "stories"
"""The default model."""


def shipped_models() -> dict[str, Path]:
    """The folders of the bundled models, by name.

    Example:
        >>> "stories" in shipped_models()
        True
    """
    folders = sorted(file.parent for file in BUNDLED.glob("*/config.json"))
    return {folder.name: folder for folder in folders}


def names_in_words() -> str:
    """The names as a sentence has them, the default model first.

    Example:
        >>> names_in_words().startswith("`stories`")
        True
    """
    names = sorted(shipped_models(), key=lambda name: name != STORIES)
    return " or ".join(f"`{name}`" for name in names)
