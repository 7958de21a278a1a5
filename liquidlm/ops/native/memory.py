"""The matrix memory by the kernel of `memory.cpp`."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from ..function import apply
from .library import call

LONGEST = 128
"""Tokens of the longest chunk: longer ones compute more and leave the cache."""


class DeltaMemoryNative(torch.autograd.Function):
    """`delta_memory_reference` in chunks of time.

    It keeps its inputs, the state before each chunk and the surprise of each event; the backward pass
    computes the rest again.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx, q: Tensor, k: Tensor, v: Tensor, g: Tensor, eta: Tensor, state: Tensor, size: int
    ) -> tuple[Tensor, Tensor]:
        """All reads (B, T, N, P) and the last state (B, N, K, P)."""
        batch, length, heads, width = v.shape
        q, k, v = (_dense(x) for x in (q, k, v))
        g, eta, state = (x.contiguous() for x in (g, eta, state))
        reads, last = state.new_empty(v.shape), torch.empty_like(state)
        surprises, states = reads, None
        if any(ctx.needs_input_grad):  # pyright: ignore[reportAttributeAccessIssue]
            surprises = state.new_empty(batch, heads, length, width).transpose(1, 2)
            states = state.new_empty(batch, heads, -(-length // size), *state.shape[2:])
        sizes = (batch, length, heads, k.shape[3], width, size)
        tokens, (scratch, threads) = _described(q, k, v, reads, surprises), _workers(*sizes)
        call("memory_forward", tokens, g, eta, state, last, states, scratch, *sizes, threads)
        if states is not None:
            ctx.save_for_backward(q, k, v, g, eta, surprises, states)
        ctx.sizes = sizes  # pyright: ignore[reportAttributeAccessIssue]
        return reads, last

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: FunctionCtx, grad: Tensor, grad_state: Tensor
    ) -> tuple[Tensor | None, ...]:
        """The gradients of the inputs."""
        q, k, v, g, eta, surprises, states = ctx.saved_tensors  # pyright: ignore[reportAttributeAccessIssue]
        sizes: tuple[int, ...] = ctx.sizes  # pyright: ignore[reportAttributeAccessIssue]
        grad, grad_state = _dense(grad), grad_state.contiguous()
        of_tokens = [x.new_empty(x.shape) for x in (q, k, v)]
        of_g, of_eta, of_state = (torch.empty_like(x) for x in (g, eta, grad_state))
        tokens, (scratch, threads) = _described(q, k, v, grad, surprises, *of_tokens), _workers(*sizes)
        results = (of_g, of_eta, of_state)
        call("memory_backward", tokens, g, eta, states, grad_state, *results, scratch, *sizes, threads)
        return *of_tokens, *results, None


def _dense(x: Tensor) -> Tensor:
    """The tensor, or a copy whose last dimension is dense."""
    return x if x.stride(-1) == 1 else x.contiguous()


def _described(*tokens: Tensor) -> Int[Tensor, "n five"]:
    """What the kernel has to know of tensors (B, T, N, ·): address, type and strides of each."""
    return torch.tensor([[x.data_ptr(), x.dtype == torch.bfloat16, *x.stride()[:3]] for x in tokens])


def _workers(
    batch: int, length: int, heads: int, keys: int, values: int, size: int
) -> tuple[Float[Tensor, " floats"], int]:
    """Memory for the matrices of the chunks that are computed at one time, and how many these are."""
    threads = max(1, min(torch.get_num_threads(), batch * heads))
    return torch.empty(threads * call("memory_scratch", size, keys, values)), threads


def delta_memory_native(
    q: Float[Tensor, "b t n k"],
    k: Float[Tensor, "b t n k"],
    v: Float[Tensor, "b t n p"],
    log_decay: Float[Tensor, "b t n"],
    write: Float[Tensor, "b t n"],
    state: Float[Tensor, "b n k p"],
    chunk_size: int = 64,
) -> tuple[Float[Tensor, "b t n p"], Float[Tensor, "b n k p"]]:
    """`delta_memory_reference`, by the kernel: for float32, with q, k and v in float32 or bfloat16."""
    size = min(chunk_size, q.shape[1], LONGEST)
    return apply(DeltaMemoryNative, q, k, v, log_decay, write, state, size)
