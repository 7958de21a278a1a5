"""Weights on disk in int8: a matrix `X.weight` (o, i) as integers, and `X.weight_scale` (o, 1) beside it.

The weight is the product of both. All other weights are stored as they are. config.json says it under
`quantization_config`, where transformers keeps such facts. A loaded model has plain float weights.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import safe_open
from torch import Tensor

from ..errors import LiquidError
from ..ops.int8 import to_int8

WEIGHT, SCALE = ".weight", ".weight_scale"
METHOD = "int8_rows"
QUANTIZATION = {"quant_method": METHOD, "bits": 8}
"""What `quantization_config` in config.json is."""
LEAST = (8, 1024)
"""Columns and numbers that a matrix has at least. Smaller ones would save nothing."""


def is_int8(config: Mapping[str, Any]) -> bool:
    """Whether a config.json says that the matrices are in int8."""
    said = config.get("quantization_config")
    return isinstance(said, dict) and said.get("quant_method") == METHOD


def pack(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Matrices become int8, each with its scales; other tensors stay as they are.

    Args:
        weights: of a model, by name.

    Raises:
        LiquidError: a matrix has a number that is not finite.
    """
    packed: dict[str, Tensor] = {}
    for name, weight in weights.items():
        if not _is_matrix(name, weight):
            packed[name] = weight
            continue
        if not weight.isfinite().all():
            raise LiquidError(f"{name} has numbers that are not finite: the model cannot be stored as int8")
        packed[name], packed[_scale_of(name)] = to_int8(weight)
    return packed


def _is_matrix(name: str, weight: Tensor) -> bool:
    columns, numbers = LEAST
    large = weight.ndim == 2 and weight.shape[1] >= columns and weight.numel() >= numbers
    return large and name.endswith(WEIGHT) and weight.is_floating_point()


def _scale_of(name: str) -> str:
    return name.removesuffix(WEIGHT) + SCALE


def unpack(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights that `pack` got, with matrices in float32. Weights that are not packed stay as they are.

    Args:
        weights: as a file has them.

    Raises:
        LiquidError: scales without integers, integers without scales, wrong types or shapes, or scales that
            are not finite and positive.
    """
    whole = {}
    for name, weight in weights.items():
        if name.endswith(SCALE):
            if (of := name.removesuffix(SCALE) + WEIGHT) not in weights:
                raise LiquidError(f"the weights are damaged: {name} has scales, but there is no {of}")
        elif name.endswith(WEIGHT) and (scale := _scale_of(name)) in weights:
            whole[name] = _product(name, weight, weights[scale])
        elif weight.dtype == torch.int8:
            raise LiquidError(f"the weights are damaged: {name} is int8, but there is no {_scale_of(name)}")
        else:
            whole[name] = weight
    return whole


def _product(name: str, weight: Tensor, scale: Tensor) -> Float[Tensor, "o i"]:
    if weight.dtype != torch.int8 or not scale.is_floating_point():
        types = f"{_type(weight)} and its scales {_type(scale)}"
        raise LiquidError(f"the weights are damaged: {name} is {types}, not int8 and a floating-point type")
    if weight.ndim != 2 or scale.shape != (len(weight), 1):
        raise LiquidError(
            f"the weights are damaged: {name} is {tuple(weight.shape)} and its scales {tuple(scale.shape)};"
            " there must be one scale per row, (o, i) and (o, 1)"
        )
    if not (scale.isfinite() & (scale > 0)).all():
        raise LiquidError(f"the weights are damaged: {_scale_of(name)} must be finite and greater than 0")
    return weight.float() * scale.float()


def _type(x: Tensor) -> str:
    return str(x.dtype).removeprefix("torch.")


def stored_types(files: Iterable[str | Path]) -> dict[str, str]:
    """The type of each weight, in the words of safetensors ("F32", "I8"). It reads only headers of files."""
    types = {}
    for path in files:
        with safe_open(path, "pt") as file:
            types.update({name: file.get_slice(name).get_dtype() for name in file.keys()})  # noqa: SIM118
    return types


def is_packed(types: Mapping[str, str]) -> bool:
    """Whether there are int8 weights or scales among these."""
    return any(kind == "I8" or name.endswith(SCALE) for name, kind in types.items())


def check_types(types: Mapping[str, str], own: Mapping[str, Tensor]) -> None:
    """Check that weights which are floating-point in the model are so on disk, or int8.

    Raises:
        LiquidError: one has another type.
    """
    for name, weight in own.items():
        kind = types.get(name, "I8")
        if weight.is_floating_point() and kind != "I8" and "F" not in kind:
            raise LiquidError(f"the weights are damaged: {name} is {kind}, not a floating-point type")
