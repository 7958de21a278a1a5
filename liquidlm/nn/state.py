"""The state: what is remembered between calls. It has a constant size.

A state is passed in and returned, never kept on a module. `LiquidCache` holds the state of a model,
`CellState` that of one layer. `LiquidCache.save` and `LiquidCache.load` keep it over a restart.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, cast

import torch
from jaxtyping import Float, Float64, Int, Int32
from safetensors.torch import save_file
from torch import Tensor
from transformers import Cache
from transformers.cache_utils import STATIC_LAYER_TYPE_MAPPING, CacheLayerMixin, LinearAttentionLayer

from ..errors import LiquidError
from ..runtime.files import write_file
from ..runtime.precision import check_float64
from .state_header import STATE, open_state


class CellState(NamedTuple):
    """The state of one layer, one row per sequence.

    Attributes:
        h: (B, H) the state of the time cell.
        conv: (B, W−1, H) the last inputs of the short convolution.
        memory: (B, N, K, P) the matrix memories of N heads; None in a layer without a memory.
        time: (B,) the time of the last event; −∞ before the first.
        past_ids: the last tokens, in the first layer of a model with an `NGramEmbedding`; else None.
        counts: (B, L, 16) what followed the contexts of this document, in the first layer of a model with a
            `CountMemory` that has such a table; else None.
        context: (B, N) the last tokens, in the first layer of a model with a `CountMemory`; else None.
    """

    h: Float[Tensor, "b h"]
    conv: Float[Tensor, "b w h"]
    memory: Float[Tensor, "b n k p"] | None
    time: Float64[Tensor, " b"]
    past_ids: Int[Tensor, "b w"] | None = None
    counts: Int32[Tensor, "b l e"] | None = None
    context: Int[Tensor, "b n"] | None = None

    def map(self, change) -> "CellState":
        """The state with `change` applied to each of its tensors."""
        parts = (None if part is None else change(part) for part in self)
        return CellState(*parts)  # pyright: ignore[reportArgumentType]

    def detach(self) -> "CellState":
        """The same state, without gradient."""
        return self.map(Tensor.detach)

    def like(self, other: Tensor) -> "CellState":
        """The state on the device and in the floating-point type of `other`; times stay float64."""
        device, dtype = other.device, other.dtype
        h, conv = self.h.to(device, dtype), self.conv.to(device, dtype)
        memory = None if self.memory is None else self.memory.to(device, dtype)
        integers = (None if x is None else x.to(device) for x in (self.past_ids, self.counts, self.context))
        return CellState(h, conv, memory, self.time.to(device), *integers)

    def fitted(self, fresh: "CellState", whose: str) -> "CellState":
        """This state on the device and in the type of a fresh state.

        Args:
            fresh: the state before the first event, of the layer that continues from this state.
            whose: the owner of this state, for the message.

        Raises:
            LiquidError: a tensor has another shape than in `fresh`, or is missing in one of the two.
        """
        for name, part, own in zip(self._fields, self, fresh, strict=True):
            shape, wanted = (None if one is None else tuple(one.shape) for one in (part, own))
            if shape != wanted:
                raise LiquidError(
                    f"the state does not fit: {name} of {whose} has shape {shape}, not {wanted}; give a state"
                    " of this model and of this batch size"
                )
        return self.like(fresh.h)

    def moving(self) -> dict[str, Tensor]:
        """The tensors that an event changes, by name, without the time."""
        return {name: part for name, part in self._asdict().items() if name != "time" and part is not None}

    def moved(self, parts: Iterable[Tensor]) -> "CellState":
        """The state with new tensors in place of those of `moving`, in the same order."""
        return self._replace(**dict(zip(self.moving(), parts, strict=True)))


class LiquidStateLayer(LinearAttentionLayer, CacheLayerMixin):
    """The `CellState` of one layer, in the form that caches of transformers hold.

    Attributes:
        state: None before the first token.
        seen: how many positions were read.
    """

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
        """Not supported: there are no keys and values.

        Raises:
            TypeError: always.
        """
        raise TypeError("a liquid layer has no keys and values: the model's forward writes its state")

    def store(self, state: CellState, tokens: int) -> None:
        """Replace the state, after `tokens` more positions."""
        self.state = state
        self.seen += tokens
        self.has_previous_state[0] = True
        self.is_initialized = True

    def get_seq_length(self) -> int:
        """How many positions were read."""
        return self.seen

    def get_max_length(self) -> int:
        """−1: there is no limit."""
        return -1

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """The length and offset of an attention mask over all tokens read and `query_length` new ones."""
        return self.seen + query_length, 0

    @property
    def is_croppable(self) -> bool:
        """False: a recurrent state cannot return to an earlier token."""
        return False

    def crop(self, tokens_to_remove: int) -> None:
        """Does nothing for 0 tokens.

        Raises:
            LiquidError: another number of tokens.
        """
        if tokens_to_remove != 0:
            raise LiquidError("a liquid state cannot be cropped: keep a copy of the earlier state")

    def reset(self) -> None:
        """Forget everything: the state before the first token."""
        self.state, self.seen, self.is_initialized = None, 0, False
        self.has_previous_state[0] = False

    def _select(self, rows: Int[Tensor, " rows"]) -> None:
        if self.state is not None:
            self.state = self.state.map(lambda part: part.index_select(0, rows.to(part.device)))

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Take these rows, in this order, for beam search."""
        self._select(beam_idx)

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep these rows, in this order."""
        self._select(indices)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat each row `repeats` times."""
        if self.state is not None:
            self.state = self.state.map(lambda part: part.repeat_interleave(repeats, 0))

    def offload(self) -> None:
        """Move the state to the CPU."""
        if self.state is not None:
            self.state = self.state.map(lambda part: part.to("cpu", non_blocking=True))

    def prefetch(self) -> None:
        """Nothing to do: the model moves the state to its own device."""


# The state has a constant size: a "static" cache is the same as a dynamic one.
STATIC_LAYER_TYPE_MAPPING["liquid"] = LiquidStateLayer


def liquid_layers(cache: object) -> list[LiquidStateLayer]:
    """The layers of the state of a liquid model.

    Raises:
        LiquidError: `cache` is the cache of another kind of model.
    """
    layers = getattr(cache, "layers", None)
    if not layers or not all(isinstance(layer, LiquidStateLayer) for layer in layers):
        raise LiquidError(
            f"past_key_values is a {type(cache).__name__} that holds no liquid states: give"
            " model.new_state(), the past_key_values that the model returned, or None"
        )
    return layers


class LiquidCache(Cache):
    """The states of all layers of a model, of constant size, in the form that transformers calls a cache.

    `model.new_state()` makes one. It is passed to the model and returned as `past_key_values`.

    Args:
        num_layers: the number of layers.

    Attributes:
        written_times: the times that the last call of transformers' `generate()` drew, of all new tokens but
            the last: `generate()` does not read the last token.

    Example:
        Reading in two parts gives the same output as reading at once. The size of the state does not change.

        >>> from liquidlm import LiquidTextGenerationModel
        >>> model = LiquidTextGenerationModel(16, embedding_dim=8, latent_dim=4, hidden_size=8).eval()
        >>> ids = torch.randint(16, (1, 10))
        >>> whole = model(ids).logits
        >>> state = model.new_state()
        >>> first = model(ids[:, :6], past_key_values=state, use_cache=True).logits
        >>> size = state.nbytes
        >>> second = model(ids[:, 6:], past_key_values=state, use_cache=True).logits
        >>> torch.testing.assert_close(torch.cat([first, second], 1), whole, rtol=1e-4, atol=1e-4)
        >>> state.nbytes == size, state.get_seq_length(), state.last_time
        (True, 10, tensor([9.], dtype=torch.float64))
    """

    def __init__(self, num_layers: int):
        super().__init__(layers=[LiquidStateLayer() for _ in range(num_layers)])
        self.written_times: list[Float64[Tensor, " b"]] = []

    def states(self) -> list[CellState | None]:
        """The state of each layer; None before the first token."""
        return [cast(LiquidStateLayer, layer).state for layer in self.layers]

    @property
    def last_time(self) -> Float64[Tensor, " b"]:
        """(B,) the time of the last event of each row.

        Raises:
            LiquidError: nothing was read yet.
        """
        state = self.states()[0]
        if state is None:
            raise LiquidError("the state is empty and has no time yet: read some text first")
        return state.time

    def copy(self) -> "LiquidCache":
        """An independent copy. It shares tensors with this one: no tensor is ever changed in place."""
        other = LiquidCache(len(self.layers))
        other.written_times = [*self.written_times]
        for mine, theirs in zip(self.layers, other.layers, strict=True):
            if (state := cast(LiquidStateLayer, mine).state) is not None:
                cast(LiquidStateLayer, theirs).store(state, cast(LiquidStateLayer, mine).seen)
        return other

    @classmethod
    def of_states(cls, states: Sequence[CellState], seen: int) -> "LiquidCache":
        """A cache with the given states of its layers, after `seen` tokens."""
        cache = cls(len(states))
        for layer, state in zip(cast(list[LiquidStateLayer], cache.layers), states, strict=True):
            layer.store(state, seen)
        return cache

    @classmethod
    def joined(cls, caches: Sequence["LiquidCache"]) -> "LiquidCache":
        """One state with the rows of all caches, in order. Each cache must have read something."""
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
        """Remove the gradient, in place: back-propagation through time is truncated here."""
        for layer in cast(list[LiquidStateLayer], self.layers):
            if layer.state is not None:
                layer.state = layer.state.detach()
        return self

    @property
    def nbytes(self) -> int:
        """The size of the state in bytes, of all rows."""
        return sum(
            part.numel() * part.element_size()
            for state in self.states()
            if state is not None
            for part in state
            if part is not None
        )

    def tensors(self) -> dict[str, Tensor]:
        """The state as it is saved: copies of its tensors, by the name `layer.part`."""
        return {
            f"{i}.{name}": part.detach().clone(memory_format=torch.contiguous_format)
            for i, state in enumerate(self.states())
            if state is not None
            for name, part in state._asdict().items()
            if part is not None
        }

    def load_tensors(self, tensors: dict[str, Tensor], seen: int) -> "LiquidCache":
        """Replace this state by one that `tensors` returned, after `seen` tokens.

        Raises:
            LiquidError: a tensor is missing: the state belongs to another model.
        """
        for i, layer in enumerate(cast(list[LiquidStateLayer], self.layers)):
            layer.reset()
            parts = {name: tensors.get(f"{i}.{name}") for name in CellState._fields}
            missing = [name for name in ("h", "conv", "time") if parts[name] is None]
            if missing:
                raise LiquidError(
                    "the saved state belongs to another model: give it to the model that wrote it"
                    f" (it lacks {', '.join(missing)} of layer {i})"
                )
            layer.store(CellState(**parts), seen)  # pyright: ignore[reportArgumentType]
        return self

    def save(self, path: str | Path, **metadata: str) -> None:
        """Write the state and `metadata` to a safetensors file, atomically.

        Raises:
            LiquidError: the file cannot be written.
        """
        header = {STATE: json.dumps({"seen": str(self.get_seq_length()), **metadata})}
        write_file(path, lambda part: save_file(self.tensors(), part, header))

    @classmethod
    def load(cls, path: str | Path, num_layers: int) -> tuple["LiquidCache", dict[str, str]]:
        """A state that `save` wrote, and its metadata.

        Args:
            path: the file.
            num_layers: the number of layers of the model.

        Raises:
            LiquidError: the file is missing, damaged, of another kind, or of a model with other layers.
        """
        with open_state(path, "pt") as (file, metadata):
            seen = int(metadata.pop("seen"))
            # Copies, which stay valid when the file is closed.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        if any(not name.startswith(tuple(f"{i}." for i in range(num_layers))) for name in tensors):
            raise LiquidError(f"{path} is the state of a model with more layers: give one of this model")
        return cls(num_layers).load_tensors(tensors, seen), metadata


def fresh_time(batch: int, device: torch.device) -> Float64[Tensor, " b"]:
    """(B,) −∞: the last time of rows without events.

    Raises:
        LiquidError: a device without float64.
    """
    check_float64(device)
    return torch.full((batch,), float("-inf"), dtype=torch.float64, device=device)
