"""The embedding stage folded into one table, for many passes with the same weights."""

from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..nn.embedding import TokenVectors

if TYPE_CHECKING:
    from .body import LiquidBody


class FoldedEmbedding:
    """x of every token id: computed at first use, and computed again after a change of the weights.

    Give it to `model(…, table=…)`. No gradient passes through it. It does not notice a change that autograd
    does not see (`weight.data.add_`).

        >>> from liquidlm import LiquidTextGenerationModel
        >>> model = LiquidTextGenerationModel(64, 16, 8, 16, num_hidden_layers=1).eval()
        >>> ids = torch.tensor([[5, 6]])
        >>> torch.allclose(model(ids, table=FoldedEmbedding(model)).logits, model(ids).logits, atol=1e-5)
        True

    Args:
        model: the model whose embedding stage is folded.
    """

    def __init__(self, model: "LiquidBody"):
        self._model = model
        self._rows: Tensor | None = None
        self._of: tuple[Any, ...] = ()

    def rows(self) -> Float[Tensor, "v h"]:
        """The table, a row per token id."""
        of = tuple(_mark(weight) for weight in self._model.embedding.parameters())
        if self._rows is None or of != self._of:
            with torch.inference_mode(False):  # a table from inference mode could not be used outside of it
                self._rows, self._of = self._model.fold(), of
        return self._rows

    def vectors(self, ids: Int[Tensor, "b t"]) -> TokenVectors:
        """What the embedding stage makes of these ids, without log |det|."""
        return TokenVectors(self.rows(), ids)


def _mark(weight: Tensor) -> tuple[Any, ...]:
    """A mark of a weight that is another one after a change."""
    version = object() if weight.is_inference() else weight._version  # an inference tensor has no version
    return version, weight.data_ptr(), weight.dtype, weight.device, weight.shape
