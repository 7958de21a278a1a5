"""Questions about the data, where the data may not be there yet: within torch.compile and torch.export."""

import torch
from torch import Tensor


def holds(condition: Tensor, unknown: bool) -> bool:
    """Whether a condition is true; `unknown` while a graph is traced, which must hold for any data."""
    return unknown if torch.compiler.is_compiling() else bool(condition)


def fails(wrong: Tensor, message: str) -> bool:
    """Whether what was given is wrong; a traced graph asks when it runs, and stops with `message`."""
    if torch.compiler.is_compiling():
        torch.ops.aten._assert_async.msg(~wrong, message)
        return False
    return bool(wrong)
