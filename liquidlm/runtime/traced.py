"""Questions about the values of a tensor that also work inside torch.compile and torch.export."""

import torch
from torch import Tensor


def holds(condition: Tensor, unknown: bool) -> bool:
    """Whether a condition is true. While a graph is traced there are no values, and `unknown` is returned."""
    return unknown if torch.compiler.is_compiling() else bool(condition)


def fails(wrong: Tensor, message: str) -> bool:
    """Whether `wrong` is true. A traced graph checks it when it runs, and then fails with `message`."""
    if torch.compiler.is_compiling():
        torch.ops.aten._assert_async.msg(~wrong, message)
        return False
    return bool(wrong)
