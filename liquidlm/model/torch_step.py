"""One token per row in torch: the form of the step that defines its result.

It runs on every device, in float64 too, and in graphs that are exported. Symbols: B batch, V vocabulary,
H hidden.
"""

from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ..nn.norm import Norm
from ..nn.state import CellState
from ..runtime.offload import at_hand
from .block import LiquidBlock
from .language_model import LiquidLanguageModel
from .step_blocks import NGramStep, NormStep, StepTime, block_step, matrix, plain_weight


class TorchStep:
    """The parts of a model for one token per row, and their run.

    Args:
        model: in eval mode, with plain weights.
        table: `model.fold()`, if the caller has it.

    Raises:
        LiquidError: a layer is not a plain one.
    """

    @torch.no_grad()
    def __init__(self, model: LiquidLanguageModel, table: Float[Tensor, "v h"] | None = None):
        wide = torch.promote_types(model.dtype, torch.float32)
        self.table = (model.fold() if table is None else table).to(wide)
        self.gap_weight = model.config.gap_weight
        with at_hand(*model.modules()):
            self.ngrams = None if model.ngrams is None else NGramStep(model.ngrams, wide)
            self.blocks = [block_step(cast(LiquidBlock, block), wide) for block in model.blocks]
            self.norm = NormStep(cast(Norm, model.norm), wide)
            self.time_norm = None if model.time_norm is None else NormStep(model.time_norm, wide)
            self.output = matrix(wide, plain_weight(model.output_proj))

    def advance(
        self, ids: Int[Tensor, " b"], gap: Float[Tensor, "b 1"], states: list[CellState]
    ) -> tuple[Float[Tensor, "b v"], Float[Tensor, "b h"] | None, list[CellState]]:
        """Logits, features for `next_gap` (None without a time head), and the states after the token.

        Args:
            ids: the token of each row.
            gap: time since the token before, in units of time_scale.
            states: the state of each block, in the type of the table; not changed.
        """
        after, times = [], [StepTime.after(gap, self.gap_weight)] * len(self.blocks)
        if self.time_norm is not None:
            times[-1] = StepTime.after(gap, None)
        x, past = F.embedding(ids, self.table), states[0].past_ids
        if self.ngrams is not None and past is not None:
            x, past = self.ngrams(x, ids, past)
        text = x
        for block, time, state in zip(self.blocks, times, states, strict=True):
            text, (x, state) = x, block(x, time, state)
            after.append(state)
        after[0] = after[0]._replace(past_ids=past)
        if self.time_norm is None:
            return self.norm(x) @ self.output, None, after
        return self.norm(text) @ self.output, self.time_norm(x), after
