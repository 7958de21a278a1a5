"""Read one token per row, as fast as possible: what writing text costs.

The equations are those of `nn/cells/` and of the model for T = 1, without padding, documents or dropout. All
that does not change from token to token is prepared once: the embedding stage is a table, and matrices with
the same input are joined.

Symbols: B batch, V vocabulary, H hidden.
"""

from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Num
from torch import Tensor

from ..errors import LiquidError
from ..nn.events import LONGEST
from ..nn.norm import Norm
from ..nn.state import CellState, LiquidCache, LiquidStateLayer
from ..runtime.offload import at_hand
from .block import LiquidBlock
from .language_model import LiquidLanguageModel
from .step_blocks import NGramStep, NormStep, StepTime, block_step, matrix, plain_weight


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

    Raises:
        LiquidError: a layer is not a plain one.
    """

    @torch.no_grad()
    def __init__(self, model: LiquidLanguageModel, table: Float[Tensor, "v h"] | None = None):
        wide = torch.promote_types(model.dtype, torch.float32)
        self.table = (model.fold() if table is None else table).to(wide)
        self.time_scale, self.gap_weight = model.config.time_scale, model.config.gap_weight
        with at_hand(*model.modules()):
            self.ngrams = None if model.ngrams is None else NGramStep(model.ngrams, wide)
            self.blocks = [block_step(cast(LiquidBlock, block), wide) for block in model.blocks]
            self.norm = NormStep(cast(Norm, model.norm), wide)
            self.time_norm = None if model.time_norm is None else NormStep(model.time_norm, wide)
            self.output = matrix(wide, plain_weight(model.output_proj))

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
        if not bool(((gap := torch.as_tensor(gap, dtype=torch.float64)) >= 0).all() and gap.isfinite().all()):
            raise LiquidError(f"the gap before a token must be finite and at least 0, not {gap.tolist()}")
        last = state.last_time.to(self.table.device)
        fresh = last.isneginf()  # a row of padding alone
        # The gap is the difference of the times, as in `Events`: so a step equals one event of a longer pass.
        time = torch.where(fresh, 0.0, last + gap.to(last.device))
        gap = torch.where(fresh, 0.0, (time - last) / self.time_scale).clamp(max=LONGEST)
        gap = gap.to(self.table)[:, None]
        states = [cast(CellState, one).like(self.table) for one in state.states()]
        logits, features, after = self.advance(ids, gap, states)
        for layer, new in zip(cast(list[LiquidStateLayer], state.layers), after, strict=True):
            layer.store(new._replace(time=time), 1)
        return logits, features

    def advance(
        self, ids: Int[Tensor, " b"], gap: Float[Tensor, "b 1"], states: list[CellState]
    ) -> tuple[Float[Tensor, "b v"], Float[Tensor, "b h"] | None, list[CellState]]:
        """The same as a function of tensors alone.

        Args:
            ids: the token of each row.
            gap: time since the token before, in units of time_scale.
            states: the state of each block; not changed.

        Returns:
            Logits, features for `next_gap` (None without a time head), and the states after the token.
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
