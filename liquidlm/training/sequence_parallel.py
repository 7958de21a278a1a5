"""One very long text over several processes: each process reads one part of it and hands the state on.

Process r receives the state of a block from process r − 1 when it comes to this block, and sends the block's
state after its part to process r + 1: while r is at block l, r − 1 is at block l + 1. The gradients of the
states go the other way in the backward pass. With L blocks, W processes take (L + W − 1)/L times as long as
one process takes for its part alone. Each process keeps the activations of its part only.

Symbols: B batch, T tokens.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
import torch.distributed as dist
from jaxtyping import Bool, Float64, Int, Num
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.distributed.tensor import DTensor

from ..errors import LiquidError
from ..model.labels import next_labels, next_times
from ..model.output import LiquidOutput
from ..model.pretrained import LiquidTextGenerationModel
from ..nn.events import Events
from ..nn.state import CellState, LiquidCache, LiquidStateLayer, fresh_time
from ..nn.timestamps import in_float64
from ..ops import IGNORED


class Receive(torch.autograd.Function):
    """x and tensors from another process; backward sends their gradients back.

    `anchor` requires a gradient, so backward is called even if x and the tensors require none: the other
    process waits for their gradients.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx, anchor: Tensor, x: Tensor, source: int, *like: Tensor
    ) -> tuple[Tensor, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """x, and the tensors that `source` sends, of the shapes of `like`."""
        ctx.source = source  # pyright: ignore[reportAttributeAccessIssue]
        received = [torch.empty_like(part) for part in like]
        for part in received:
            dist.recv(part, source)
        return x.view_as(x), *received

    @staticmethod
    def backward(ctx: FunctionCtx, grad_x: Tensor, *grads: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Send the gradients of the tensors to where they came from."""
        for grad in grads:
            dist.send(grad.contiguous(), ctx.source)  # pyright: ignore[reportAttributeAccessIssue]
        return None, grad_x, None, *(None for _ in grads)


class Send(torch.autograd.Function):
    """x, and tensors are sent to another process; backward receives their gradients. `anchor` as above."""

    @staticmethod
    def forward(ctx: FunctionCtx, anchor: Tensor, x: Tensor, target: int, *parts: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """x; the parts are sent to `target`."""
        ctx.target, ctx.like = target, [torch.empty_like(part, device="meta") for part in parts]  # pyright: ignore[reportAttributeAccessIssue]
        for part in parts:
            dist.send(part.contiguous(), target)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: FunctionCtx, grad_x: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Receive the gradients of the parts."""
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
    """This process's part of one forward pass over T tokens. All processes call it with the same arguments.

    Each process reads an equal part of the T positions, the first process the first part. The mean of `loss`
    over the processes is the loss of one process that reads the whole text, and the mean of the gradients is
    its gradient: average the gradients after the backward pass.

    Args:
        model: has the same weights in every process.
        input_ids: the whole text.
        timestamps, labels, starts: of the whole text, as for the model.

    Returns:
        The output for this process's part: its `logits`, and as `past_key_values` the state after it. The
        last process has the state after the text.

    Raises:
        LiquidError: ids or times that the model refuses; fewer tokens than processes; activation
            checkpointing; sharded weights (FSDP2 gathers them at other moments in every process); no process
            group.
    """
    _check_setup(model, input_ids.shape[1])
    times = timestamps
    if times is None:
        times = torch.arange(input_ids.shape[1], device=input_ids.device).expand_as(input_ids)
    times = in_float64(times, model.config.time_scale)
    # All processes check the whole text: a mistake in one part must stop all of them.
    model.embedding.check_ids(input_ids)
    fresh = fresh_time(len(input_ids), input_ids.device)
    events = Events.build(times, fresh, length=input_ids.shape[1], start=starts)
    part = _own_part(input_ids.shape[1])
    state = _state_before(model, input_ids, times, events, part.start)
    targets = {}
    if labels is not None:
        targets = _targets(input_ids, None if timestamps is None else times, labels, starts, part)
    with _handing_on(model, part.stop - part.start):
        return model(
            input_ids[:, part],
            timestamps=times[:, part],
            starts=None if starts is None else starts[:, part],
            past_key_values=state,
            use_cache=True,
            **targets,
        )


def _check_setup(model: LiquidTextGenerationModel, length: int) -> None:
    """Refuse what cannot run over several processes."""
    if not dist.is_initialized():
        raise LiquidError("sequence_parallel needs several processes: torch.distributed.init_process_group")
    if length < (count := dist.get_world_size()):
        raise LiquidError(f"{length} tokens cannot be divided between {count} processes")
    if any(isinstance(parameter, DTensor) for parameter in model.parameters()):
        raise LiquidError("sequence_parallel needs whole weights in every process, not sharded ones")
    if model.counts is not None:
        raise LiquidError("a model with counts (count_orders) reads a text in order, in one process")
    if model.gradient_checkpointing:
        raise LiquidError("activation checkpointing would receive every state twice: turn it off")


def _own_part(length: int) -> slice:
    """The positions that this process reads."""
    rank, count = dist.get_rank(), dist.get_world_size()
    return slice(length * rank // count, length * (rank + 1) // count)


def _state_before(
    model: LiquidTextGenerationModel,
    input_ids: Int[Tensor, "b t"],
    times: Float64[Tensor, "b t"],
    events: Events,
    first: int,
) -> LiquidCache:
    """The state before position `first`, without what the previous process sends.

    It has the time of the event before, and the last tokens for the n-grams: every process knows them.
    """
    state = model.new_state()
    if first == 0:
        return state
    own = model.initial_states(len(input_ids), model.dtype, input_ids.device)
    if model.ngrams is not None:
        earlier, past = slice(0, first), cast(Tensor, own[0].past_ids)
        past = model.ngrams.after(input_ids[:, earlier], events.part(earlier), past)
        own[0] = own[0]._replace(past_ids=past)
    for layer, one in zip(cast(list[LiquidStateLayer], state.layers), own, strict=True):
        layer.store(one._replace(time=times[:, first - 1]), first)
    return state


def _targets(
    input_ids: Int[Tensor, "b t"],
    times: Float64[Tensor, "b t"] | None,
    labels: Int[Tensor, "b t"],
    starts: Bool[Tensor, "b t"] | None,
    part: slice,
) -> dict[str, Any]:
    """The arguments of the model for the loss of a part; `times` is None if the text has none."""
    targets = next_labels(labels, None, starts)
    given = {
        "shift_labels": targets[:, part],
        "flow_ids": input_ids,
        "num_items_in_batch": int((targets != IGNORED).sum()) / dist.get_world_size(),
    }
    return given if times is None else {**given, "shift_timestamps": next_times(times)[:, part]}


@contextmanager
def _handing_on(model: LiquidTextGenerationModel, length: int) -> Iterator[None]:
    """Every block receives its state before its first token, and sends it after `length` tokens."""
    rank, count = dist.get_rank(), dist.get_world_size()
    seen = dict.fromkeys(model.blocks, 0)
    anchor = torch.zeros((), requires_grad=True)

    def before(block: Any, given: tuple[Any, ...]) -> tuple[Any, ...]:
        x, events, state = given
        state = state._replace(past_ids=None)  # every process knows them
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
