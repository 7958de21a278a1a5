"""One very long text over several processes: each reads its part of the time, and hands the state on.

Process r receives the state of every layer from process r − 1 when it comes to that layer, and sends its own
on to process r + 1 as soon as it has left the layer: while r is at layer l, r − 1 is at layer l + 1. With L
layers, W processes take (L + W − 1)/L times as long as one process takes for its W-th of the text; in the
backward pass the states' gradients go the other way. Activations are divided by W.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
import torch.distributed as dist
from jaxtyping import Bool, Int, Num
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.distributed.tensor import DTensor

from ..errors import LiquidError
from ..model.labels import next_labels, next_times
from ..model.language_model import LiquidTextGenerationModel
from ..model.output import LiquidOutput
from ..nn.events import Events
from ..nn.state import CellState, LiquidStateLayer, fresh_time
from ..nn.timestamps import in_float64
from ..ops import IGNORED


class Receive(torch.autograd.Function):
    """x, and tensors of another process; backward sends their gradients there.

    `anchor` asks for a gradient, so that backward is called whether or not x, or the tensors, need one: the
    other process waits for it.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx, anchor: Tensor, x: Tensor, source: int, *like: Tensor
    ) -> tuple[Tensor, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.source = source  # pyright: ignore[reportAttributeAccessIssue]
        received = [torch.empty_like(part) for part in like]
        for part in received:
            dist.recv(part, source)
        return x.view_as(x), *received

    @staticmethod
    def backward(ctx: FunctionCtx, grad_x: Tensor, *grads: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        for grad in grads:
            dist.send(grad.contiguous(), ctx.source)  # pyright: ignore[reportAttributeAccessIssue]
        return None, grad_x, None, *(None for _ in grads)


class Send(torch.autograd.Function):
    """x, while tensors go to another process; backward receives their gradients from there.

    `anchor` as above.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, anchor: Tensor, x: Tensor, target: int, *parts: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.target, ctx.like = target, [torch.empty_like(part, device="meta") for part in parts]  # pyright: ignore[reportAttributeAccessIssue]
        for part in parts:
            dist.send(part.contiguous(), target)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: FunctionCtx, grad_x: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        grads = [torch.empty_like(part, device=grad_x.device) for part in ctx.like]  # pyright: ignore[reportAttributeAccessIssue]
        for grad in grads:
            dist.recv(grad, ctx.target)  # pyright: ignore[reportAttributeAccessIssue]
        return None, grad_x, None, *grads


def sequence_parallel(
    model: LiquidTextGenerationModel,
    input_ids: Int[Tensor, "b t"],
    timestamps: Num[Tensor, "b t"] | None = None,
    labels: Int[Tensor, "b t"] | None = None,
    starts: Bool[Tensor, "b t"] | None = None,
) -> LiquidOutput:
    """This process's part of one forward pass over T tokens, called by all processes alike.

    All are given the whole text and have the same weights. Each reads an equal part of the T positions, the
    first process the first; `logits` and `past_key_values` are those of its part, so that the last process
    has the state after the text. The mean over the processes of `loss` is the loss of one process that reads
    all, and the mean of the gradients is its gradient: average them after backward.

    Args:
        timestamps, labels, starts: as for the model; of the whole text.

    Raises:
        LiquidError: ids or times that cannot be, fewer tokens than processes, activation checkpointing,
            weights that are sharded (FSDP2 gathers them at other moments in every process), or
            torch.distributed not begun.
    """
    if not dist.is_initialized():
        raise LiquidError("sequence_parallel needs several processes: torch.distributed.init_process_group")
    rank, count, (batch, length) = dist.get_rank(), dist.get_world_size(), input_ids.shape
    if length < count:
        raise LiquidError(f"{length} tokens cannot be divided between {count} processes")
    if any(isinstance(parameter, DTensor) for parameter in model.parameters()):
        raise LiquidError("sequence_parallel needs whole weights in every process, not sharded ones")
    if model.gradient_checkpointing:
        raise LiquidError("activation checkpointing would receive every state twice: turn it off")
    given = timestamps is not None
    if timestamps is None:
        timestamps = torch.arange(length, device=input_ids.device).expand(batch, -1)
    timestamps = in_float64(timestamps, model.config.time_scale)
    # All processes check all of the text: a mistake in one part must end them all.
    model.embedding.check_ids(input_ids)
    events = Events.build(timestamps, fresh_time(batch, input_ids.device), length=length, start=starts)
    first, last = (length * number // count for number in (rank, rank + 1))
    part, state = slice(first, last), model.new_state()
    more: dict[str, Any] = {}
    if labels is not None:
        targets = next_labels(labels, None, starts)
        more = {"shift_labels": targets[:, part], "flow_ids": input_ids}
        more["num_items_in_batch"] = int((targets != IGNORED).sum()) / count
        if given:
            more["shift_timestamps"] = next_times(timestamps)[:, part]
    if rank > 0:  # what it holds is received on the way, but for the event before: its time and the tokens
        empty = model.initial_states(batch, model.dtype, input_ids.device)
        if model.ngrams is not None:
            past, earlier = cast(Tensor, empty[0].past_ids), slice(0, first)
            past = model.ngrams.after(input_ids[:, earlier], events.part(earlier), past)
            empty[0] = empty[0]._replace(past_ids=past)
        for layer, own in zip(state.layers, empty, strict=True):
            before = timestamps[:, first - 1]
            cast(LiquidStateLayer, layer).store(own._replace(time=before), first)
    with _handing_on(model, rank, count, last - first):
        return model(
            input_ids[:, part],
            timestamps=timestamps[:, part],
            starts=None if starts is None else starts[:, part],
            past_key_values=state,
            use_cache=True,
            **more,
        )


@contextmanager
def _handing_on(model: LiquidTextGenerationModel, rank: int, count: int, length: int) -> Iterator[None]:
    """Every block receives its state before its first token and sends it after its last of so many."""
    seen = dict.fromkeys(model.blocks, 0)
    anchor = torch.zeros((), requires_grad=True)

    def before(block: Any, given: tuple[Any, ...]) -> tuple[Any, ...]:
        x, events, state = given
        state = state._replace(past_ids=None)  # which every process knows
        if rank > 0 and seen[block] == 0:
            x, *parts = Receive.apply(anchor, x, rank - 1, *state.moving().values())  # pyright: ignore[reportGeneralTypeIssues]
            state = state.moved(parts)
        return x, events, state

    def after(block: Any, given: tuple[Any, ...], made: tuple[Tensor, CellState]) -> tuple[Any, ...]:
        x, state = made
        seen[block] += x.shape[1]
        if rank + 1 < count and seen[block] == length:
            x = Send.apply(anchor, x, rank + 1, *state.moving().values())
        return x, state

    hooks = [block.register_forward_pre_hook(before) for block in model.blocks]
    hooks += [block.register_forward_hook(after) for block in model.blocks]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
