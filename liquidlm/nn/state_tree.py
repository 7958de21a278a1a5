"""Registers `LiquidCache` with torch.export as a tree of tensors, so that a graph can take and return it."""

from typing import Any, cast

from torch import Tensor
from torch.utils import _pytree as pytree

from .state import CellState, LiquidCache, LiquidStateLayer


def _parts(cache: LiquidCache) -> tuple[list[Tensor], dict[str, Any]]:
    """The tensors of a state, and their names."""
    states = [{} if state is None else state._asdict() for state in cache.states()]
    names = [[name for name, part in state.items() if part is not None] for state in states]
    tensors = [state[name] for state, own in zip(states, names, strict=True) for name in own]
    return tensors, {"names": names, "seen": cache.get_seq_length()}


def _parts_by_name(cache: LiquidCache) -> tuple[list[tuple[Any, Tensor]], dict[str, Any]]:
    tensors, about = _parts(cache)
    names = [f"{i}.{name}" for i, own in enumerate(about["names"]) for name in own]
    return [(pytree.MappingKey(name), one) for name, one in zip(names, tensors, strict=True)], about


def _unflatten(tensors: Any, about: Any) -> LiquidCache:
    cache, given = LiquidCache(len(about["names"])), iter(tensors)
    for layer, names in zip(cast(list[LiquidStateLayer], cache.layers), about["names"], strict=True):
        if names:
            parts = {name: next(given) for name in names}
            layer.store(CellState(**{**dict.fromkeys(CellState._fields), **parts}), about["seen"])
    return cache


pytree.register_pytree_node(
    LiquidCache,
    _parts,
    _unflatten,
    serialized_type_name="liquidlm.LiquidCache",
    flatten_with_keys_fn=_parts_by_name,
)
