"""The next tokens of every row through a whole model by the kernel of `step.cpp`: its plan, and its run.

A plan is built once: matrices are packed in the order in which the kernel reads them, and all sizes and
addresses stand in structs, whose fields are those of the structs of the same name in C++.
"""

import ctypes
from collections.abc import Sequence
from ctypes import POINTER, Structure, c_double, c_int64, c_void_p
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ..int8 import to_int8
from .library import call, kernels

Weights = Literal["float32", "bf16", "int8"]
"""The types in which a plan can hold matrices; int8 has one scale per output."""
CODES = {"float32": 0, "bf16": 1, "int8": 2}
DOTS = {"float32": 0, "bf16": 3, "int8": 4}
"""On a processor that multiplies pairs of bf16 numbers, which rounds the inputs of a product too."""
Parts = tuple[Tensor, Tensor, Tensor | None, Tensor | None]
"""The state of a block: h, conv, and memory and the last tokens if it has them."""
WORTH_A_THREAD = 1 << 20
"""One more thread is used per this many products of a weight and a number."""


class PackedMatrix(Structure):
    """A packed matrix; see `rows.h`."""

    _fields_ = (
        *((name, c_void_p) for name in ("weight", "scale", "bias")),
        *((name, c_int64) for name in ("type", "in_", "out")),
    )


class Norm(Structure):
    """A norm without bias."""

    _fields_ = (("weight", c_void_p), ("width", c_int64), ("eps", c_double))


class Memory(Structure):
    """The matrix memory of a block; without heads there is none."""

    _fields_ = (("heads", c_int64), ("writes", c_int64), ("weight", PackedMatrix), ("norm", Norm))


class Block(Structure):
    """One block of the model."""

    _fields_ = (
        ("mixer_norm", Norm),
        ("mlp_norm", Norm),
        ("taps", c_void_p),
        ("gap_scale", c_void_p),
        ("width", c_int64),
        ("memory", Memory),
        ("own_state", c_int64),
        ("context", c_int64),
        ("context_warp", PackedMatrix),
        ("synapse", PackedMatrix),
        ("leak", c_void_p),
        ("minus_pace", c_void_p),
        ("out", PackedMatrix),
        ("gate_up", PackedMatrix),
        ("down", PackedMatrix),
        ("inner", c_int64),
    )


class Model(Structure):
    """The whole model."""

    _fields_ = (
        *((name, c_int64) for name in ("hidden", "vocabulary", "blocks")),
        ("table", c_void_p),
        ("block", POINTER(Block)),
        ("norm", Norm),
        ("time_norm", Norm),
        ("output", PackedMatrix),
        *((name, c_int64) for name in ("longest", "ngram_rows", "ngram_dim")),
        ("ngram_table", c_void_p),
        ("ngram_proj", PackedMatrix),
        ("weighs_gap", c_int64),
        ("gap_weight", c_double),
    )


class Packer:
    """Makes the entries of a plan, and keeps the tensors whose addresses they hold.

    Args:
        weights: the type of the matrices.
    """

    def __init__(self, weights: Weights):
        self.weights: Weights = weights
        self.kept: list[Tensor] = []
        self.numbers = 0
        self._lanes = call("step_lanes")
        self._codes = DOTS if has_dots() else CODES

    def vector(self, x: Float[Tensor, "..."]) -> int:
        """The address of float32 numbers."""
        return self._keep(x.float())

    def norm(self, weight: Float[Tensor, " h"], eps: float) -> Norm:
        """A norm."""
        return Norm(self.vector(weight), len(weight), eps)

    def matrix(
        self, weight: Float[Tensor, "i o"], bias: Float[Tensor, " o"] | None = None, *, pairs: bool = False
    ) -> PackedMatrix:
        """A matrix (in, out) and its bias.

        Args:
            weight: the matrix.
            bias: None for 0.
            pairs: the outputs are two halves, and output j of both is needed at the same time.
        """
        self.numbers += weight.numel()
        weight, bias = weight.float(), weight.new_zeros(weight.shape[1]) if bias is None else bias
        scale = None
        if self.weights == "int8":
            integers, scales = to_int8(weight.mT)  # as in a file of int8: its integers are the same
            weight, scale = integers.mT.float(), scales.float().squeeze(1)
        return PackedMatrix(
            self._keep(self._words(self._blocks(weight, pairs))),
            None if scale is None else self._keep(self._blocks(scale[None] * 2.0**-24, pairs)),
            self._keep(self._blocks(bias[None].float(), pairs)),
            self._codes[self.weights],
            *weight.shape,
        )

    def _blocks(self, weight: Float[Tensor, "i o"], pairs: bool) -> Float[Tensor, "n i two l"]:
        """Columns ▶ blocks of two vectors: of both halves for pairs, else of neighbours."""
        lanes = self._lanes
        if pairs:
            halves = weight.unflatten(1, (2, -1))
            return F.pad(halves, (0, -halves.shape[2] % lanes)).unflatten(2, (-1, lanes)).permute(2, 0, 1, 3)
        return F.pad(weight, (0, -weight.shape[1] % (2 * lanes))).unflatten(1, (-1, 2, lanes)).transpose(0, 1)

    def _words(self, blocks: Float[Tensor, "n i two l"]) -> Tensor:
        """The order within a block, in the type of the weights; see `widen` in `tiles.h`."""
        blocks = F.pad(blocks, (0, 0, 0, 0, 0, blocks.shape[1] % 2))  # an even number of inputs
        if self.weights == "float32":
            return blocks
        pairs = blocks.unflatten(1, (-1, 2))
        if self.weights == "bf16":
            return pairs.permute(0, 1, 3, 4, 2).bfloat16()
        return pairs.permute(0, 1, 4, 2, 3).to(torch.int8)

    def _keep(self, x: Tensor) -> int:
        self.kept.append(x.detach().contiguous())
        return self.kept[-1].data_ptr()


def has_dots() -> bool:
    """Whether the kernels multiply pairs of bf16 numbers."""
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()  # not in every torch that we allow
    return kernels().name == "avx512" and bool(capabilities.get("avx512_bf16"))


class Plan:
    """A model, ready for the kernel.

    Args:
        model: its struct, without blocks.
        blocks: the structs of its blocks.
        packer: what made them: it holds their tensors.
    """

    def __init__(self, model: Model, blocks: Sequence[Block], packer: Packer):
        self._blocks = (Block * len(blocks))(*blocks)
        self._model, self._kept, self._numbers = model, packer.kept, packer.numbers
        model.block, model.blocks = self._blocks, len(blocks)
        self._address = ctypes.addressof(model)
        self._spare: list[Tensor] = []

    def run(
        self,
        ids: Int[Tensor, "b t"],
        gap: Float[Tensor, "b t"],
        before: Sequence[Parts],
        after: Sequence[Parts],
        features: Float[Tensor, "n h"] | None,
        *,
        every: bool = True,
    ) -> Float[Tensor, "n v"]:
        """The logits after the tokens. Numbers are float32, ids int64.

        Args:
            ids: the tokens.
            gap: before them, in units of time_scale.
            before: the state of each block.
            after: where the state of each block goes after the tokens; contiguous.
            features: where the features of the time head go.
            every: logits and features after every token, (B·T, …); False: after the last of each row, (B, …).

        Raises:
            IndexError: an id is outside the vocabulary.
        """
        rows, events = ids.shape
        logits = gap.new_empty(rows * events if every else rows, self._model.vocabulary)
        threads = max(1, min(torch.get_num_threads(), ids.numel() * self._numbers // WORTH_A_THREAD))
        work = self._room(call("step_work", self._address, rows, events, threads), gap)
        parts = [
            None if part is None else part.contiguous()
            for both in zip(before, after, strict=True)
            for block in both
            for part in block
        ]
        states = (c_void_p * len(parts))(*(None if part is None else part.data_ptr() for part in parts))
        tensors = (ids.contiguous(), gap.contiguous(), logits, features, work)
        if call("step", self._address, ctypes.addressof(states), *tensors, rows, events, every, threads):
            size = self._model.vocabulary
            wrong = int(ids[(ids < 0) | (ids >= size)][0])
            raise IndexError(f"token id {wrong} is outside 0…{size - 1}")
        self._spare[:] = [work]
        return logits

    def _room(self, size: int, like: Tensor) -> Tensor:
        """At least `size` numbers for the kernel to work with: those of an earlier call, if they suffice.

        Were they freed, states that are kept would settle in the hole, and the next call would need another.
        """
        try:
            work = self._spare.pop()  # no other thread has it now
        except IndexError:
            work = like.new_empty(0)
        return work if len(work) >= size else like.new_empty(1 << (size - 1).bit_length())
