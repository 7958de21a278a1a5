"""The embedding stage as one table, for whoever reads much with the same weights."""

from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..nn.embedding import TokenVectors

if TYPE_CHECKING:
    from .body import LiquidModel


class FoldedEmbedding:
    """x of every token id: folded when first asked for, and anew once the weights are others.

    It belongs to who reads (`model(…, table=…)`), not to the state that is read into. There is no gradient
    through it. A change behind autograd's back (`weight.data.add_`) is not noticed.
    """

    def __init__(self, model: "LiquidModel"):
        self._model = model
        self._rows: Tensor | None = None
        self._of: tuple[Any, ...] = ()

    def rows(self) -> Float[Tensor, "v h"]:
        """The table, a row per token id."""
        of = tuple(_mark(weight) for weight in self._model.embedding.parameters())
        if self._rows is None or of != self._of:
            with torch.inference_mode(False):  # else it could not be used outside of that
                self._rows, self._of = self._model.fold(), of
        return self._rows

    def vectors(self, ids: Int[Tensor, "b t"]) -> TokenVectors:
        """What the embedding stage makes of these ids, without log |det|."""
        return TokenVectors(self.rows(), ids)


def _mark(weight: Tensor) -> tuple[Any, ...]:
    """What tells a weight from itself before a change."""
    version = object() if weight.is_inference() else weight._version  # an inference tensor counts none
    return version, weight.data_ptr(), weight.dtype, weight.device, weight.shape
