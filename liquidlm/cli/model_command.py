"""Commands that use models: their imports take seconds, and come before the command itself."""

from typing import Any

import typer
from typer.core import TyperCommand

from ..runtime.startup import ready


class ModelCommand(TyperCommand):
    """A command that imports torch and transformers when it runs, and only then.

    Ctrl-C ends the process at once, without a message, until they are imported; from then on it is a
    KeyboardInterrupt.
    """

    def invoke(self, ctx: typer.Context) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Import the models, then run the command."""
        from transformers.utils import logging

        from ..model import language_model as language_model  # all that takes long

        logging.disable_progress_bar()  # transformers' own, for loading a few files
        ready()
        return super().invoke(ctx)
