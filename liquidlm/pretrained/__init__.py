"""The models that come with the package: a folder each, with weights, tokenizer and a card."""

from pathlib import Path

STORIES = "stories"
"""The one that writes where no model is named."""


def shipped_models() -> dict[str, Path]:
    """Their folders by name."""
    folders = sorted(file.parent for file in Path(__file__).parent.glob("*/config.json"))
    return {folder.name: folder for folder in folders}
