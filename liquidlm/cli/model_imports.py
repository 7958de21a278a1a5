"""The imports of models, which take seconds. A command checks its options first."""

from ..runtime.startup import ready


def import_models() -> None:
    """Import torch and transformers.

    Ctrl-C ends the process at once, without a message, until they are imported. From then on it is a
    KeyboardInterrupt.
    """
    from ..model import language_model as language_model  # all that takes long

    ready()
