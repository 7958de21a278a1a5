"""What all operations with their own backward pass share."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor


def apply(function: type[torch.autograd.Function], *given: Any) -> Any:
    """`function.apply`, without work for gradients under `no_grad`.

    `ctx.needs_input_grad` depends on the inputs alone, not on `no_grad`. So the inputs are detached here.
    """
    if not torch.is_grad_enabled():
        given = tuple(one.detach() if isinstance(one, Tensor) else one for one in given)
    return function.apply(*given)


def in_own_precision(method: Callable[..., Any]) -> Callable[..., Any]:
    """Runs a forward or backward pass without autocast, in the types of its tensors.

    The same as custom_fwd(cast_inputs=…) and custom_bwd of torch.amp, for every device. Without it,
    `loss.backward()` within autocast would compute the products of the backward pass in bfloat16.
    """

    @wraps(method)
    def run(ctx: Any, *given: Any) -> Any:
        device = next(one.device.type for one in given if isinstance(one, Tensor))
        with torch.autocast(device, enabled=False):
            return method(ctx, *given)

    return run
