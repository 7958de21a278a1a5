"""Read tokens into a state, as fast as possible: what writing and reading text costs.

The equations are those of `nn/cells/` and of the model, without padding, documents or dropout. All that does
not change from token to token is prepared once: the embedding stage is a table, and matrices with the same
input are joined. `torch_step.py` defines the result for one token. `native_step.py` computes one or many in
one call. With it, the result for a row is the same to the bit, whatever else is in the batch, and however its
tokens are divided into calls.

Symbols: B batch, T tokens, V vocabulary, H hidden.
"""

import math
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor

from ..errors import LiquidError
from ..nn.events import LONGEST, Events
from ..nn.state import CellState, LiquidCache, LiquidStateLayer
from ..ops.native.step import Weights
from .folded import FoldedEmbedding
from .language_model import LiquidLanguageModel
from .native_step import NativeStep
from .torch_step import TorchStep

CHUNK = 512
"""Tokens of a call when only the last logits are asked for: the memory of a call stays small."""


class LiquidStep:
    """The next tokens of every row ▶ logits.

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
        table: the model's embedding table, if the caller has it.
        weights: the type of the matrices in the compiled kernel. bf16 and int8 are faster, and change the
            logits a little. Where the kernel cannot run (float64, a GPU, a mixer of one's own, no compiled
            kernels), all is in at least float32.

    Attributes:
        model: as given.
        table: the embedding table, a row per token id.
        time_scale: of the model.
        weights: as given.

    Raises:
        LiquidError: a layer is not a plain one.
    """

    @torch.no_grad()
    def __init__(
        self,
        model: LiquidLanguageModel,
        table: FoldedEmbedding | None = None,
        weights: Weights = "float32",
    ):
        self.model, self._folded = model, FoldedEmbedding(model) if table is None else table
        parts = TorchStep(model, self._folded.rows())
        self.form = NativeStep(parts, weights) if NativeStep.takes(parts) else parts
        self.table, self.time_scale, self.weights = parts.table, model.config.time_scale, weights

    @property
    def reads_alike(self) -> bool:
        """Whether the numbers of a row are the same to the bit however its tokens are divided into calls."""
        return isinstance(self.form, NativeStep) and self.form.reads

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
        """The same, and the features for `next_gap` (None without a time head).

        Raises:
            LiquidError: a gap is negative or not finite.
        """
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
        start = fresh[:, None]
        logits, after[0] = self._with_counts(ids[:, None], start, states[0], logits[:, None], after[0])
        logits = logits[:, 0]
        for layer, new in zip(cast(list[LiquidStateLayer], state.layers), after, strict=True):
            layer.store(new._replace(time=time), 1)
        return logits, features

    @torch.no_grad()
    def read_events(
        self,
        ids: Int[Tensor, "b t"],
        state: LiquidCache,
        timestamps: Num[Tensor, "b t"] | None = None,
        *,
        every: bool = False,
    ) -> tuple[Float[Tensor, "b n v"], Float[Tensor, "b n h"] | None]:
        """Read many tokens per row: logits, and the features for `next_gap` (None without a time head).

        Where the kernel cannot read, the model does, in the type of its weights.

            >>> from liquidlm import LiquidTextGenerationModel
            >>> model = LiquidTextGenerationModel(64, 16, 8, 16, num_hidden_layers=2).eval()
            >>> state = model.new_state()
            >>> LiquidStep(model).read_events(torch.tensor([[5, 6, 7]]), state)[0].shape
            torch.Size([1, 1, 64])

        Args:
            ids: the tokens of each row, at least one.
            state: of the tokens before, or a new one. It is changed in place.
            timestamps: of the tokens, in the unit of the model; None puts them one unit apart.
            every: give logits and features after every token, by one call of the kernel; False: after the
                last (n is 1).

        Raises:
            LiquidError: the times decrease.
        """
        if not (isinstance(self.form, NativeStep) and self.form.reads):
            keep = 0 if every else 1
            output: Any = self.model(
                ids,
                timestamps=timestamps,
                past_key_values=state,
                use_cache=True,
                logits_to_keep=keep,
                table=self._folded,
            )
            return output.logits, None if output.features is None else output.features[:, -keep:]
        size = ids.shape[1] if every else CHUNK
        found = None
        for first in range(0, ids.shape[1], size):
            part = slice(first, first + size)
            times = None if timestamps is None else timestamps[:, part]
            found = self._read_chunk(self.form, ids[:, part], state, times, every)
        assert found is not None
        return found

    def _read_chunk(
        self,
        form: NativeStep,
        ids: Int[Tensor, "b t"],
        state: LiquidCache,
        timestamps: Num[Tensor, "b t"] | None,
        every: bool,
    ) -> tuple[Float[Tensor, "b n v"], Float[Tensor, "b n h"] | None]:
        rows, length = ids.shape
        if state.get_seq_length():
            before = [cast(CellState, one).like(self.table) for one in state.states()]
        else:
            before = self.model.initial_states(rows, self.table.dtype, self.table.device)
        events = Events.build(timestamps, before[0].time, length=length, time_scale=self.time_scale)
        logits, features, after = form.read(ids, events.gap, before, every=every)
        logits = logits.unflatten(0, (rows, -1))
        logits, after[0] = self._with_counts(ids, events.start, before[0], logits, after[0])
        for layer, new in zip(cast(list[LiquidStateLayer], state.layers), after, strict=True):
            layer.store(new._replace(time=events.last_time), length)
        return logits, None if features is None else features.unflatten(0, (rows, -1))

    def _with_counts(
        self,
        ids: Int[Tensor, "b t"],
        start: Bool[Tensor, "b t"],
        before: CellState,
        logits: Float[Tensor, "b n v"],
        after: CellState,
    ) -> tuple[Float[Tensor, "b n v"], CellState]:
        """The last logits with what a `CountMemory` has found, and the first state with its counts."""
        counts = self.model.counts
        if counts is None or before.context is None:
            return logits, after
        found, context, table = counts.read(ids, start, None, before.counts, before.context)
        logits = counts.log_probs(logits, found[:, -logits.shape[1] :].to(logits.device))
        return logits, after._replace(counts=table, context=context)
