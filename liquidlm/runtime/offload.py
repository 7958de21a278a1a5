"""Weights that accelerate keeps elsewhere (`device_map="auto"`, `cpu_offload`, `disk_offload`)."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn


def at_hand(*modules: nn.Module) -> AbstractContextManager:
    """With the modules' own parameters where they compute, for whoever reads them outside their `forward`.

    accelerate's hooks fetch what is offloaded when `forward` is called, and know of nothing else. Modules
    whose parameters are there already cost nothing.
    """
    hooked = (module for module in modules if hasattr(module, "_hf_hook"))
    away = [module for module in hooked if any(p.is_meta for p in module.parameters(recurse=False))]
    return _fetched(away) if away else nullcontext()


@contextmanager
def _fetched(modules: Sequence[Any]) -> Iterator[None]:
    fetched = []
    try:
        for module in modules:
            module._hf_hook.pre_forward(module)
            fetched.append(module)
        yield
    finally:
        for module in fetched:
            module._hf_hook.post_forward(module, None)


def execution_device(module: nn.Module) -> torch.device | None:
    """Where a module that accelerate has prepared computes; None of any other."""
    hooks = (getattr(part, "_hf_hook", None) for part in module.modules())
    devices = (getattr(hook, "execution_device", None) for hook in hooks)
    return next((torch.device(device) for device in devices if device is not None), None)
