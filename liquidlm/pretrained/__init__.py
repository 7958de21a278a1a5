"""The bundled models: one folder each, with weights, tokenizer and a model card."""

from pathlib import Path

STORIES = "stories"
"""The default model."""


def shipped_models() -> dict[str, Path]:
    """The folders of the bundled models, by name.

    Example:
        >>> "stories" in shipped_models()
        True
    """
    folders = sorted(file.parent for file in Path(__file__).parent.glob("*/config.json"))
    return {folder.name: folder for folder in folders}
