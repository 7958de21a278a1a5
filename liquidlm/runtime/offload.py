"""Weights that accelerate keeps in another place (`device_map="auto"`, `cpu_offload`, `disk_offload`)."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn


def at_hand(*modules: nn.Module) -> AbstractContextManager:
    """A context in which the modules' own parameters are on the device where the modules compute.

    accelerate fetches offloaded parameters when `forward` is called, and only then. Code that reads
    parameters outside `forward` needs this context. Modules that are not offloaded cost nothing.

    Args:
        modules: those whose parameters are read; not their submodules.
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
    """The device on which a module computes, if accelerate has prepared the module; otherwise None."""
    hooks = (getattr(part, "_hf_hook", None) for part in module.modules())
    devices = (getattr(hook, "execution_device", None) for hook in hooks)
    return next((torch.device(device) for device in devices if device is not None), None)
