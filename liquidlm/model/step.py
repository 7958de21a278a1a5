"""Read one token per row, as fast as possible: what writing text costs.

The equations are those of `nn/cells/` and of the model for T = 1, without padding, documents or dropout. All
that does not change from token to token is prepared once: the embedding stage is a table, and matrices with
the same input are joined. `torch_step.py` defines the result. `native_step.py` computes it in one call.

Symbols: B batch, V vocabulary, H hidden.
"""

import math
from typing import cast

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor

from ..errors import LiquidError
from ..nn.events import LONGEST
from ..nn.state import CellState, LiquidCache, LiquidStateLayer
from ..ops.native.step import Weights
from .language_model import LiquidLanguageModel
from .native_step import NativeStep
from .torch_step import TorchStep


class LiquidStep:
    """One token per row ▶ logits.

    It copies the model's weights. After a change of the weights, make a new LiquidStep. It computes in at
    least float32.

        >>> from liquidlm import LiquidTextGenerationModel
        >>> model = LiquidTextGenerationModel(64, 16, 8, 16, num_hidden_layers=2).eval()
        >>> state = model(torch.tensor([[5, 6]])).state
        >>> LiquidStep(model)(torch.tensor([7]), state).shape
        torch.Size([1, 64])
        >>> state.get_seq_length()
        3

    Args:
        model: in eval mode, with plain weights (merged, if there are adapters).
        table: `model.fold()`, if the caller has it.
        weights: the type of the matrices in the compiled kernel. bf16 and int8 are faster, and change the
            logits a little. Where the kernel cannot run (float64, a GPU, a mixer of one's own, no compiled
            kernels), all is in at least float32.

    Raises:
        LiquidError: a layer is not a plain one.
    """

    @torch.no_grad()
    def __init__(
        self,
        model: LiquidLanguageModel,
        table: Float[Tensor, "v h"] | None = None,
        weights: Weights = "float32",
    ):
        parts = TorchStep(model, table)
        self.form = NativeStep(parts, weights) if NativeStep.takes(parts) else parts
        self.table, self.time_scale = parts.table, model.config.time_scale

    @torch.no_grad()
    def __call__(
        self,
        ids: Int[Tensor, " b"],
        state: LiquidCache,
        gap: float | Num[Tensor, "..."] = 1.0,
    ) -> Float[Tensor, "b v"]:
        """Read one token per row; the logits of the token after it.

        Args:
            ids: the token of each row.
            state: has read at least one token (the model itself reads the first). It is changed in place.
            gap: time since the token before, in the unit of the timestamps; one for all rows, or one per row.

        Raises:
            LiquidError: a gap that is negative or not finite.
        """
        return self.read(ids, state, gap)[0]

    @torch.no_grad()
    def read(
        self,
        ids: Int[Tensor, " b"],
        state: LiquidCache,
        gap: float | Num[Tensor, "..."] = 1.0,
    ) -> tuple[Float[Tensor, "b v"], Float[Tensor, "b h"] | None]:
        """The same, and the features for `next_gap` (None without a time head)."""
        gap = torch.as_tensor(gap, dtype=torch.float64)
        least, most = torch.aminmax(gap)
        if not (least.item() >= 0 and most.item() < math.inf):  # NaN compares as false
            raise LiquidError(f"the gap before a token must be finite and at least 0, not {gap.tolist()}")
        last = state.last_time.to(self.table.device)
        fresh = last == -math.inf  # a row of padding alone
        # The gap is the difference of the times, as in `Events`: so a step equals one event of a longer pass.
        time = (last + gap.to(last.device)).masked_fill_(fresh, 0.0)
        gap = ((time - last) / self.time_scale).masked_fill_(fresh, 0.0).clamp_(max=LONGEST)
        gap = gap.to(self.table)[:, None]
        states = [cast(CellState, one).like(self.table) for one in state.states()]
        logits, features, after = self.form.advance(ids, gap, states)
        for layer, new in zip(cast(list[LiquidStateLayer], state.layers), after, strict=True):
            layer.store(new._replace(time=time), 1)
        return logits, features
