"""Load weights from a folder, and refuse a folder that lacks some of them."""

import warnings
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, cast

import torch
from safetensors.torch import load_file
from transformers import PreTrainedModel

from ..errors import LiquidError
from .packed import check_types, is_packed, stored_types, unpack

if TYPE_CHECKING:
    from .pretrained import LiquidModel

HUB_OPTIONS = ("cache_dir", "force_download", "local_files_only", "token", "revision", "subfolder")


class LoadingMixin:
    """`from_pretrained` that leaves no weight random, unless the caller asks for it."""

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: Any,
        *args: Any,
        output_loading_info: bool = False,
        ignore_mismatched_sizes: bool = False,
        **kwargs: Any,
    ) -> Any:
        """The model of a folder or of a hub's name, as in transformers.

        The folder must have every weight that its config.json asks for. Three arguments allow new weights,
        which a warning then names: a config, or options of it such as `time_components=2`, with parts that
        the saved model lacks; `ignore_mismatched_sizes`; `output_loading_info`.

        Args:
            pretrained_model_name_or_path: the folder, or the name on the hub.
            output_loading_info: also return what was missing or unexpected.
            ignore_mismatched_sizes: initialise weights whose sizes differ.
            args, kwargs: further arguments of transformers, and fields of the config.

        Raises:
            LiquidError: weights are missing or have other sizes, and no argument allows it; with a time head,
                another number of blocks.
        """
        kwargs["ignore_mismatched_sizes"] = True  # transformers' own refusal is a RuntimeError without names
        load, folder = cast(Any, super()).from_pretrained, pretrained_model_name_or_path
        model, info = load(folder, *args, output_loading_info=True, **kwargs)
        missing, others = set(info["missing_keys"]), sorted(info["mismatched_keys"])
        if others and not ignore_mismatched_sizes:
            _, theirs, own = others[0]
            raise LiquidError(
                f"the weights are not this model's: {_some([name for name, *_ in others])} (the first is"
                f" {tuple(theirs)} in {folder}, and {tuple(own)} here);"
                " ignore_mismatched_sizes=True initialises such weights"
            )
        if folder is not None:
            hub = {name: kwargs[name] for name in HUB_OPTIONS if name in kwargs}
            saved, own = cast(Any, cls).config_class.from_pretrained(folder, **hub), model.config
            timed = saved.time_components or own.time_components
            if timed and saved.num_hidden_layers != own.num_hidden_layers:
                raise LiquidError(
                    f"{folder} has num_hidden_layers={saved.num_hidden_layers}, not {own.num_hidden_layers}:"
                    " with a time head, the number must stay the same"
                )
            if missing and not output_loading_info and (lacking := missing & _weights_of(cls, saved)):
                raise LiquidError(
                    f"the weights are not this model's: {folder} lacks {_some(lacking)}; only parts"
                    " that its config.json does not have, such as time_components, can have new weights"
                )
        if new := missing | {name for name, *_ in others}:
            _begin(model, new)
            warnings.warn(f"new weights, to be trained: {_some(new)}", stacklevel=2)
        return (model, info) if output_loading_info else model

    @staticmethod
    def _load_pretrained_model(
        model: Any, state_dict: Any, checkpoint_files: Any, *args: Any, **kwargs: Any
    ) -> Any:
        """As in transformers, but int8 weights become float32 when they are read."""
        if state_dict is None and all(
            str(file).endswith(".safetensors") for file in checkpoint_files or [""]
        ):
            types = stored_types(checkpoint_files)
            check_types(types, model.state_dict())
            if is_packed(types):
                files = [load_file(file) for file in checkpoint_files]
                weights = {name: weight for file in files for name, weight in file.items()}
                state_dict, checkpoint_files = unpack(weights), None
        load = cast(Any, PreTrainedModel)._load_pretrained_model
        return load(model, state_dict, checkpoint_files, *args, **kwargs)

    def mark_tied_weights_as_initialized(self, loading_info: Any) -> None:
        """As in transformers, but a tied table that the folder lacks stays in the list of missing weights."""
        missing = set(loading_info.missing_keys)
        cast(Any, super()).mark_tied_weights_as_initialized(loading_info)
        tied = cast(dict[str, str], cast(Any, self).all_tied_weights_keys).items()
        loading_info.missing_keys |= {source for name, source in tied if {name, source} <= missing}


def _weights_of(cls: Any, config: Any) -> set[str]:
    """The names of the weights that a config asks for."""
    with torch.device("meta"):
        return set(cls(config).state_dict())


@torch.no_grad()
def _begin(model: "LiquidModel", names: Collection[str]) -> None:
    """Set these weights to those of a new model."""
    fresh, own = type(model)(model.config).state_dict(), model.state_dict()
    for name in names:
        if own[name].is_meta:
            raise LiquidError(
                f"{name} is new and would be offloaded: load the model without device_map, and save it first"
            )
        own[name].copy_(fresh[name])


def _some(names: Collection[str]) -> str:
    """The first three names, and the number of the others."""
    first, more = sorted(names)[:3], len(names) - 3
    return ", ".join(first) + (f" and {more} more" if more > 0 else "")
