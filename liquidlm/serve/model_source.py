"""Where a served model comes from: its folder is read at the start, and again for a reload."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..inference.saving import load_language_model
from ..inference.state_files import fingerprint, vocabulary
from ..model.language_model import LiquidLanguageModel
from ..ops.native.step import Weights
from ..runtime.precision import best_device
from ..text.tokenizer import LEDTokenizerWrapper
from .limits import Limits
from .model_names import model_names
from .named_states import StatesInFolder, StatesInMemory
from .serving import Serving


@dataclass(frozen=True)
class ModelSource:
    """The folder of a model, and how it is served.

    Attributes:
        folder: folder or name of the model (see `load_language_model`).
        name: the model's name in requests.
        limits: of requests, memory and times.
        weights: their type while text is written (`LiquidStep`).
        states: folder of the states that clients keep; None keeps them in memory.
    """

    folder: str
    name: str
    limits: Limits
    weights: Weights = "float32"
    states: Path | None = None

    def load(self, before: Serving | None = None) -> Serving:
        """Read the folder.

        Args:
            before: the same model as it was read before. States in memory are kept if it has not changed.

        Raises:
            LiquidError: the folder has no model, or the folder of states cannot be made.
        """
        model, tokenizer = load_language_model(self.folder, best_device())
        return self.serving(model, tokenizer, before)

    def serving(
        self, model: LiquidLanguageModel, tokenizer: LEDTokenizerWrapper, before: Serving | None = None
    ) -> Serving:
        """The same for a model that is loaded: in evaluation mode, with its tokenizer."""
        whose = f"{fingerprint(model)} {vocabulary(tokenizer)} {self.weights}"
        most, most_bytes = self.limits.states, self.limits.states_bytes
        if self.states is not None:
            store = StatesInFolder(self.states, whose, most, most_bytes)
        elif before is not None and before.states.model == whose:
            store = before.states
        else:
            store = StatesInMemory(most, most_bytes, whose)
        return Serving(model, tokenizer, self.name, self.limits, store, self.weights)


def model_sources(
    folders: Sequence[str],
    names: Sequence[str],
    limits: Limits,
    weights: Weights = "float32",
    states: Path | None = None,
) -> list[ModelSource]:
    """The models of a server. They share its memory in equal parts.

    >>> [source.name for source in model_sources(["runs/a", "runs/b"], [], Limits())]
    ['a', 'b']

    Args:
        folders: of the models.
        names: of the models in requests; none takes the folders' names.
        limits: of the server.
        weights: as in `ModelSource`.
        states: folder of the states that clients keep. With several models each has a folder in it.

    Raises:
        LiquidError: there are more or fewer names than folders, or a name twice.
    """
    found = model_names(folders, names, states)
    own = replace(
        limits,
        cache_bytes=limits.cache_bytes // len(found),
        states_bytes=limits.states_bytes // len(found),
    )
    return [
        ModelSource(folder, name, own, weights, states / name if states and len(found) > 1 else states)
        for folder, name in zip(folders, found, strict=True)
    ]
