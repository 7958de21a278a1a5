"""What is remembered between calls, constant in size: passed in, handed out, never kept on a module."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, cast

import torch
from jaxtyping import Float, Float64, Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers import Cache
from transformers.cache_utils import STATIC_LAYER_TYPE_MAPPING, CacheLayerMixin, LinearAttentionLayer

from ..errors import LiquidError
from ..runtime.files import write_file
from ..runtime.precision import check_float64


class CellState(NamedTuple):
    """The state of one layer, one row per sequence.

    Attributes:
        h: state of the time cell.
        conv: the last inputs of the short convolution.
        memory: the matrix memories, K×P per head; None in a layer that has none.
        time: time of the last event; −∞ before the first.
        past_ids: the last tokens, as `NGramEmbedding` keeps them; in the first layer of a model that has it.
    """

    h: Float[Tensor, "b h"]
    conv: Float[Tensor, "b w h"]
    memory: Float[Tensor, "b n k p"] | None
    time: Float64[Tensor, " b"]
    past_ids: Int[Tensor, "b w"] | None = None

    def map(self, change) -> "CellState":
        """The state with `change` applied to each of its tensors."""
        parts = (None if part is None else change(part) for part in self)
        return CellState(*parts)  # pyright: ignore[reportArgumentType]

    def detach(self) -> "CellState":
        return self.map(Tensor.detach)

    def beside(self, other: Tensor) -> "CellState":
        """The state on the device and in the floating type of a tensor; times stay float64."""
        made = self.map(lambda part: part.to(other.device, other.dtype if part.is_floating_point() else None))
        return made._replace(time=self.time.to(other.device))

    def fitted(self, fresh: "CellState", whose: str) -> "CellState":
        """This state on the device and in the type of a fresh state.

        Args:
            fresh: the state before the first event, of the layer that goes on from this one.
            whose: what this state belongs to, for the message.

        Raises:
            LiquidError: a tensor has another shape than in the fresh state, or only one of them has it.
        """
        for name, part, own in zip(self._fields, self, fresh, strict=True):
            shape, wanted = (None if one is None else tuple(one.shape) for one in (part, own))
            if shape != wanted:
                raise LiquidError(
                    f"the state does not fit: {name} of {whose} has shape {shape}, not {wanted}; give a state"
                    " of this model and of this batch size"
                )
        return self.beside(fresh.h)

    def moving(self) -> dict[str, Tensor]:
        """What an event changes beside the time, by name."""
        return {name: part for name, part in self._asdict().items() if name != "time" and part is not None}

    def moved(self, parts: Iterable[Tensor]) -> "CellState":
        """The state with these in place of what `moving` has, in its order."""
        return self._replace(**dict(zip(self.moving(), parts, strict=True)))


class LiquidStateLayer(LinearAttentionLayer, CacheLayerMixin):
    """A layer's `CellState` as transformers' caches hold it. `state` is None before the first token."""

    _layer_type = "liquid"
    is_compileable = False

    def __init__(self, **kwargs):
        LinearAttentionLayer.__init__(self)
        self.keys = self.values = None
        self.is_initialized = False
        self.state: CellState | None = None
        self.seen = 0

    def lazy_initialization(self, *args, **kwargs) -> None:
        """Nothing to prepare: the model writes the first state."""

    def update(self, *args, **kwargs):
        raise TypeError("a liquid layer has no keys and values; its state is written by the model's forward")

    def store(self, state: CellState, tokens: int) -> None:
        """Replace the state after `tokens` more positions."""
        self.state = state
        self.seen += tokens
        self.has_previous_state[0] = True
        self.is_initialized = True

    def get_seq_length(self) -> int:
        return self.seen

    def get_max_length(self) -> int:
        return -1

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.seen + query_length, 0

    @property
    def is_croppable(self) -> bool:
        """A recurrent state cannot be taken back to an earlier token."""
        return False

    def crop(self, tokens_to_remove: int) -> None:
        if tokens_to_remove != 0:
            raise LiquidError("a liquid state cannot be cropped: keep a copy of the earlier state")

    def reset(self) -> None:
        self.state, self.seen, self.is_initialized = None, 0, False
        self.has_previous_state[0] = False

    def _select(self, rows: Int[Tensor, " rows"]) -> None:
        if self.state is not None:
            self.state = self.state.map(lambda part: part.index_select(0, rows.to(part.device)))

    def reorder_cache(self, beam_idx: Tensor) -> None:
        self._select(beam_idx)

    def batch_select_indices(self, indices: Tensor) -> None:
        self._select(indices)

    def batch_repeat_interleave(self, repeats: int) -> None:
        if self.state is not None:
            self.state = self.state.map(lambda part: part.repeat_interleave(repeats, 0))

    def offload(self) -> None:
        if self.state is not None:
            self.state = self.state.map(lambda part: part.to("cpu", non_blocking=True))

    def prefetch(self) -> None:
        """The model moves the state to where it computes."""


# The state has one size from the first token on, so that a "static" cache is the same thing.
STATIC_LAYER_TYPE_MAPPING["liquid"] = LiquidStateLayer


def liquid_layers(cache: object) -> list[LiquidStateLayer]:
    """The layers of a state.

    Raises:
        LiquidError: it is no liquid model's.
    """
    layers = getattr(cache, "layers", None)
    if not layers or not all(isinstance(layer, LiquidStateLayer) for layer in layers):
        raise LiquidError(
            f"past_key_values is a {type(cache).__name__} that holds no liquid states: give"
            " model.new_state(), the past_key_values that the model returned, or none"
        )
    return layers


class LiquidCache(Cache):
    """The states of all layers of a model: constant in size, however much was read.

    Attributes:
        written_times: the times that transformers' `generate()` has drawn in its last call: of all new tokens
            but the last, which it does not read.
    """

    def __init__(self, num_layers: int):
        super().__init__(layers=[LiquidStateLayer() for _ in range(num_layers)])
        self.written_times: list[Float64[Tensor, " b"]] = []

    def states(self) -> list[CellState | None]:
        return [cast(LiquidStateLayer, layer).state for layer in self.layers]

    @property
    def last_time(self) -> Float64[Tensor, " b"]:
        """Time of each row's last event; LiquidError before the first."""
        state = self.states()[0]
        if state is None:
            raise LiquidError("the state has no time yet: read something first")
        return state.time

    def copy(self) -> "LiquidCache":
        """An independent state to go on from; tensors are shared, since none is ever changed in place."""
        other = LiquidCache(len(self.layers))
        other.written_times = [*self.written_times]
        for mine, theirs in zip(self.layers, other.layers, strict=True):
            if (state := cast(LiquidStateLayer, mine).state) is not None:
                cast(LiquidStateLayer, theirs).store(state, cast(LiquidStateLayer, mine).seen)
        return other

    @classmethod
    def of_states(cls, states: Sequence[CellState], seen: int) -> "LiquidCache":
        """A cache with these states of its layers, after `seen` tokens."""
        cache = cls(len(states))
        for layer, state in zip(cast(list[LiquidStateLayer], cache.layers), states, strict=True):
            layer.store(state, seen)
        return cache

    @classmethod
    def joined(cls, caches: Sequence["LiquidCache"]) -> "LiquidCache":
        """The rows of all, one under the other; each must have read something."""
        layers = zip(*(cast(list[CellState], cache.states()) for cache in caches), strict=True)
        states = [
            rows[0].moved(
                torch.cat(parts) for parts in zip(*(row.moving().values() for row in rows), strict=True)
            )
            for rows in layers
        ]
        times = torch.cat([cache.last_time for cache in caches])
        states = [state._replace(time=times) for state in states]
        return cls.of_states(states, max(cache.get_seq_length() for cache in caches))

    def detach_(self) -> "LiquidCache":
        """Cut the gradient: truncated back-propagation through time goes on from here."""
        for layer in cast(list[LiquidStateLayer], self.layers):
            if layer.state is not None:
                layer.state = layer.state.detach()
        return self

    @property
    def nbytes(self) -> int:
        """Bytes of the whole state, all rows."""
        return sum(
            part.numel() * part.element_size()
            for state in self.states()
            if state is not None
            for part in state
            if part is not None
        )

    def tensors(self) -> dict[str, Tensor]:
        """The state by name (`layer.part`), as it is saved: copies, since layers share their last time."""
        return {
            f"{i}.{name}": part.detach().clone(memory_format=torch.contiguous_format)
            for i, state in enumerate(self.states())
            if state is not None
            for name, part in state._asdict().items()
            if part is not None
        }

    def load_tensors(self, tensors: dict[str, Tensor], seen: int) -> "LiquidCache":
        """Take over a state saved as `tensors`, after `seen` tokens."""
        for i, layer in enumerate(cast(list[LiquidStateLayer], self.layers)):
            layer.reset()
            parts = {name: tensors.get(f"{i}.{name}") for name in CellState._fields}
            missing = [name for name in ("h", "conv", "time") if parts[name] is None]
            if missing:
                raise LiquidError(
                    f"the saved state lacks {', '.join(missing)} of layer {i}: it is of another model"
                )
            layer.store(CellState(**parts), seen)  # pyright: ignore[reportArgumentType]
        return self

    def save(self, path: str | Path, **metadata: str) -> None:
        """Write the state as safetensors, atomically, with `metadata` beside it."""
        header = {"liquid_state": json.dumps({"seen": str(self.get_seq_length()), **metadata})}
        write_file(path, lambda part: save_file(self.tensors(), part, header))

    @classmethod
    def load(cls, path: str | Path, num_layers: int) -> tuple["LiquidCache", dict[str, str]]:
        """A saved state and its metadata; LiquidError if the file is none or is damaged."""
        if not Path(path).is_file():  # a pipe would be waited for
            why = "it is no file, but a folder or a pipe" if Path(path).exists() else "there is no such file"
            raise LiquidError(f"{path} is no readable liquid state: {why}")
        names: list[str] = []
        try:
            with safe_open(path, "pt") as file:
                names = list(file.keys())
                header = (file.metadata() or {})["liquid_state"]
                tensors = {name: file.get_tensor(name).clone() for name in names}  # not the file's own memory
            metadata = json.loads(header)
            seen = int(metadata.pop("seen"))
        except (OSError, SafetensorError, KeyError, ValueError, TypeError, AttributeError) as error:
            raise LiquidError(f"{path} is no readable liquid state{_instead(names)}") from error
        if any(not name.startswith(tuple(f"{i}." for i in range(num_layers))) for name in tensors):
            raise LiquidError(f"{path} is the state of a model with more layers")
        return cls(num_layers).load_tensors(tensors, seen), metadata


def _instead(names: Sequence[str]) -> str:
    """What a file of tensors by these names is, that is no state."""
    if "rng" in names:
        return ": it belongs to a training run, which `liquidlm train --resume --out RUN` goes on with"
    if any(name.startswith("blocks.") for name in names):
        return ": it holds a model's weights; give its folder where a model is asked for"
    return " (damaged, or another file)"


def fresh_time(batch: int, device: torch.device) -> Float64[Tensor, " b"]:
    """The last time of rows that have had no event.

    Raises:
        LiquidError: a device without float64.
    """
    check_float64(device)
    return torch.full((batch,), float("-inf"), dtype=torch.float64, device=device)
