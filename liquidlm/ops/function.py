"""What all operations with a backward pass of their own have in common."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor


def apply(function: type[torch.autograd.Function], *given: Any) -> Any:
    """`function.apply`. Where no gradient is asked for, no input asks for one either: torch tells a Function
    what its inputs would need, not whether anybody wants it (`no_grad`)."""
    if not torch.is_grad_enabled():
        given = tuple(one.detach() if isinstance(one, Tensor) else one for one in given)
    return function.apply(*given)


def in_own_precision(method: Callable[..., Any]) -> Callable[..., Any]:
    """A forward or backward pass in the types of its tensors, whatever autocast says where it is called.

    As torch.amp's custom_fwd(cast_inputs=…) and custom_bwd, for any device: `loss.backward()` may stand
    within autocast, which would else have the products of the backward pass in bfloat16.
    """

    @wraps(method)
    def run(ctx: Any, *given: Any) -> Any:
        device = next(one.device.type for one in given if isinstance(one, Tensor))
        with torch.autocast(device, enabled=False):
            return method(ctx, *given)

    return run
