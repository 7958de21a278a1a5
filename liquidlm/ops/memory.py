"""The matrix memory in parallel over chunks of time, forward and backward, in plain PyTorch.

A decay is always the exponential of a sum ≤ 0 over the steps between two events. So no gap overflows, however
large. An infinite gap (the start of a document) is an exact zero, for gradients too.

Symbols: C tokens of a chunk.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from .function import apply, in_own_precision
from .slabs import slabs

SUBSTITUTED = 16
"""Triangular systems up to this size are solved by substitution; larger ones are split in halves."""


def segment_sums(g: Float[Tensor, "*batch c"]) -> Float[Tensor, "*batch c c"]:
    """s_ij = Σ_{j<l≤i} g_l for i ≥ j, −inf above the diagonal.

    The terms are summed. Differences of cumulative sums would lose small decays next to a large one, and turn
    −inf − (−inf) into NaN.

    Example:
        >>> segment_sums(torch.tensor([-1.0, -2.0, -4.0]))
        tensor([[ 0., -inf, -inf],
                [-2.,  0., -inf],
                [-6., -4.,  0.]])
    """
    size = g.shape[-1]
    above = torch.ones(size, size, dtype=torch.bool, device=g.device).triu()
    terms = g[..., :, None].expand(*g.shape, size).masked_fill(above, 0.0)
    return terms.cumsum(-2).masked_fill_(above.triu(1), float("-inf"))


def unit_lower_inverse(a: Float[Tensor, "*batch c c"]) -> Float[Tensor, "*batch c c"]:
    """(I + a)⁻¹ of strictly lower triangular a, by substitution in blocks.

    Powers of the nilpotent a would overflow where keys are nearly parallel.
    """
    size = a.shape[-1]
    if size <= SUBSTITUTED or size % 2:
        eye = torch.eye(size, dtype=a.dtype, device=a.device).expand_as(a)
        return torch.linalg.solve_triangular(a, eye, upper=False, unitriangular=True)
    half = size // 2
    first, last = unit_lower_inverse(torch.stack([a[..., :half, :half], a[..., half:, half:]]))
    out = torch.zeros_like(a)
    out[..., :half, :half], out[..., half:, half:] = first, last
    out[..., half:, :half] = -(last @ a[..., half:, :half] @ first)
    return out


class Local(NamedTuple):
    """The parts of the chunks of a slab that do not depend on the state before them.

    Attributes:
        decays: D_ij = e^{g_{j+1}+…+g_i}, 0 for i < j.
        since, until: γ_i = e^{g_1+…+g_i} and Γ_i = e^{g_{i+1}+…+g_C}.
        keys: tril(KKᵀ⊙D, −1), strictly lower.
        reads: QKᵀ⊙D.
        writes: [W_v, W_k] = inverse η [V, γK].
        inverse: (I + η keys)⁻¹.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    eta: Tensor
    decays: Tensor
    since: Tensor
    until: Tensor
    keys: Tensor
    reads: Tensor
    writes: Tensor
    inverse: Tensor


def _local(q: Tensor, k: Tensor, v: Tensor, g: Tensor, eta: Tensor, size: int, wide: torch.dtype) -> Local:
    q, k, v, g, eta = (_chunks(x, size, wide) for x in (q, k, v, g[..., None], eta[..., None]))
    g = g[..., 0]
    decays = segment_sums(g).exp_()
    since, until = g.cumsum(-1).exp_()[..., None], decays[..., -1, :, None]
    keys = (k @ k.mT).mul_(decays).tril_(-1)
    inverse = unit_lower_inverse(eta * keys)
    writes = inverse @ torch.cat([v, since * k], -1).mul_(eta)
    reads = (q @ k.mT).mul_(decays)
    return Local(q, k, v, eta, decays, since, until, keys, reads, writes, inverse)


def _chunks(x: Tensor, size: int, wide: torch.dtype) -> Tensor:
    """(B, T, N, ·) ▶ (B·N, T/C, C, ·); added steps have no decay and no write."""
    count = -(-x.shape[1] // size)
    if count * size != x.shape[1]:
        x = F.pad(x, (0, 0, 0, 0, 0, count * size - x.shape[1]))
    x = x.unflatten(1, (count, size)).permute(0, 3, 1, 2, 4)
    return x.to(wide, memory_format=torch.contiguous_format).flatten(0, 1)


def _tokens(x: Tensor, batch: int, length: int) -> Tensor:
    """The inverse of `_chunks`: (B·N, T/C, C, ·) ▶ (B, T, N, ·)."""
    x = x.unflatten(0, (batch, -1)).permute(0, 2, 3, 1, 4)
    return x.flatten(1, 2)[:, :length]


class DeltaMemory(torch.autograd.Function):
    """The WY form of Yang et al. 2024 ("Gated Delta Networks", arXiv:2412.06464), for each chunk:

        U = W_v − W_k S₀,    O = γ Q S₀ + (QKᵀ⊙D) U,    S₀' = γ_C S₀ + (Γ K)ᵀ U

    Only the step from chunk to chunk is sequential. The forward pass saves its results: reading them is
    faster than computing them again.
    """

    @staticmethod
    @in_own_precision
    def forward(
        ctx: FunctionCtx, q: Tensor, k: Tensor, v: Tensor, g: Tensor, eta: Tensor, state: Tensor, size: int
    ) -> tuple[Tensor, Tensor]:
        """All reads (B, T, N, P) and the last state (B, N, K, P)."""
        (batch, length, heads, _), wide = q.shape, state.dtype
        s, out, saved = state.flatten(0, 1), torch.empty_like(v, dtype=wide), []
        for part in _slabs(length, batch, size, q.device):
            x = _local(q[:, part], k[:, part], v[:, part], g[:, part], eta[:, part], size, wide)
            value, key = x.writes.split([v.shape[-1], k.shape[-1]], -1)
            to_end, reads = (x.until * x.k).mT, []
            from_start, before = x.since * x.q, []
            for i in range(value.shape[1]):
                before.append(s)
                u = torch.baddbmm(value[:, i], key[:, i], s, alpha=-1)
                reads.append(torch.baddbmm(from_start[:, i] @ s, x.reads[:, i], u))
                s = torch.baddbmm(x.since[:, i, -1:] * s, to_end[:, i], u)
            out[:, part] = _tokens(torch.stack(reads, 1), batch, part.stop - part.start)
            if any(ctx.needs_input_grad):  # pyright: ignore[reportAttributeAccessIssue]
                saved += [*x, torch.stack(before, 1)]
        ctx.save_for_backward(q, k, v, g, eta, *saved)
        ctx.size = size  # pyright: ignore[reportAttributeAccessIssue]
        return out, s.unflatten(0, (batch, heads))

    @staticmethod
    @once_differentiable
    @in_own_precision
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: FunctionCtx, grad: Tensor, grad_state: Tensor
    ) -> tuple[Tensor | None, ...]:
        """The gradients of the inputs that need one."""
        q, k, v, g, eta, *saved = ctx.saved_tensors  # pyright: ignore[reportAttributeAccessIssue]
        size: int = ctx.size  # pyright: ignore[reportAttributeAccessIssue]
        batch, length, heads, _ = q.shape
        needs = ctx.needs_input_grad  # pyright: ignore[reportAttributeAccessIssue]
        grads = tuple(
            torch.empty_like(x) if wanted else None
            for x, wanted in zip((q, k, v, g, eta), needs[:5], strict=True)
        )
        ds = grad_state.flatten(0, 1)
        for part in _slabs(length, batch, size, q.device, reverse=True):
            *local, states = saved[-len(Local._fields) - 1 :]
            del saved[-len(Local._fields) - 1 :]
            do = _chunks(grad[:, part], size, states.dtype)
            found, ds = _backward(Local(*local), states, do, ds, needs)
            for mine, y in zip(grads, found, strict=True):
                if mine is None or y is None:
                    continue
                y = _tokens(y if mine.dim() == 4 else y[..., None], batch, part.stop - part.start)
                mine[:, part] = y.view_as(mine[:, part])
        return *grads, ds.unflatten(0, (batch, heads)) if needs[5] else None, None


def _backward(
    x: Local, states: Tensor, do: Tensor, ds: Tensor, needs: tuple[bool, ...]
) -> tuple[tuple[Tensor | None, ...], Tensor]:
    """The needed gradients of q, k, v, g, η in the chunks of one slab, and that of the state before it."""
    of_q, of_k, of_v, of_g, of_eta, *_ = needs
    width = x.v.shape[-1]
    value, key = x.writes.split([width, x.k.shape[-1]], -1)
    u = value - key @ states
    from_start, to_end = x.since * x.q, x.until * x.k
    du, of_reads, after = x.reads.mT @ do, from_start.mT @ do, torch.empty_like(states)
    for i in range(do.shape[1] - 1, -1, -1):
        after[:, i] = ds
        du[:, i] = torch.baddbmm(du[:, i], to_end[:, i], ds)
        ds = torch.baddbmm(x.since[:, i, -1:] * ds + of_reads[:, i], key[:, i].mT, du[:, i], alpha=-1)

    if not any(needs[:5]):
        return (None,) * 5, ds
    d_products = do @ u.mT
    d_from_start, d_to_end = do @ states.mT, u @ after.mT
    d_right = x.inverse.mT @ torch.cat([du, -(du @ states.mT)], -1)  # of η [V, γK]
    d_coupling = (d_right @ x.writes.mT).tril_(-1).neg_()
    d_v, d_k = d_right.split([width, x.k.shape[-1]], -1)

    dq = dk = dv = dg = d_eta = None
    shared = d_coupling * x.keys
    if of_eta:
        d_eta = shared.sum(-1) + (d_v * x.v).sum(-1) + (d_k * x.k).sum(-1) * x.since[..., 0]
    if of_g:
        # log_d: the gradient of each log D_ij; g_l is a term of every log D_ij with j < l ≤ i.
        log_d = shared.mul_(x.eta).addcmul_(d_products, x.reads)
        lower = torch.ones(log_d.shape[-2:], dtype=log_d.dtype, device=log_d.device).tril()
        dg = (lower.mT @ log_d).mul_(lower.tril(-1)).sum(-1)
        d_since = (d_from_start * x.q + d_k * x.eta * x.k).sum(-1) * x.since[..., 0]
        d_since[..., -1] += (states * after).sum((-1, -2)) * x.since[..., -1, 0]
        d_until = (d_to_end * to_end).sum(-1)
        dg += d_since.flip(-1).cumsum(-1).flip(-1) + F.pad(d_until.cumsum(-1), (1, -1))
    d_reads = d_products.mul_(x.decays)  # of QKᵀ
    if of_q:
        dq = torch.addcmul(d_reads @ x.k, x.since, d_from_start)
    if of_k:
        d_coupling.mul_(x.eta).mul_(x.decays)  # of KKᵀ
        dk = d_k * (x.eta * x.since) + x.until * d_to_end + d_reads.mT @ x.q
        dk += (d_coupling + d_coupling.mT) @ x.k
    if of_v:
        dv = d_v * x.eta
    return (dq, dk, dv, dg, d_eta), ds


def _slabs(length: int, batch: int, size: int, device: torch.device, reverse: bool = False):
    """Slices of whole chunks."""
    count = -(-length // size)
    for s in slabs(count, batch * size, device, reverse):
        yield slice(s.start * size, min(s.stop * size, length))


def delta_memory_chunked(
    q: Float[Tensor, "b t n k"],
    k: Float[Tensor, "b t n k"],
    v: Float[Tensor, "b t n p"],
    log_decay: Float[Tensor, "b t n"],
    write: Float[Tensor, "b t n"],
    state: Float[Tensor, "b n k p"],
    chunk_size: int = 64,
) -> tuple[Float[Tensor, "b t n p"], Float[Tensor, "b n k p"]]:
    """`delta_memory_reference`, in parallel over chunks of `chunk_size` tokens, in the type of the state."""
    size = min(chunk_size, q.shape[1])
    return apply(DeltaMemory, q, k, v, log_decay, write, state, size)


def delta_memory_weights(
    q: Float[Tensor, "b t n k"],
    k: Float[Tensor, "b t n k"],
    log_decay: Float[Tensor, "b t n"],
    write: Float[Tensor, "b t n"],
) -> Float[Tensor, "b n t t"]:
    """w_ij (B, N, T, T), the exact weight of value j in read i: o_i = Σ_j w_ij v_j + (a part from the state).

        w = (QKᵀ⊙D) (I + tril(η KKᵀ⊙D, −1))⁻¹ η

    Time and memory grow with T²: for short sequences.

    Args:
        q, k, log_decay, write: see `delta_memory_reference`.

    Example:
        >>> q, k = (F.normalize(torch.randn(1, 5, 1, 4), dim=-1) for _ in range(2))
        >>> v, log_decay, write = torch.randn(1, 5, 1, 4), -torch.rand(1, 5, 1), torch.rand(1, 5, 1)
        >>> reads, _ = delta_memory_chunked(q, k, v, log_decay, write, torch.zeros(1, 1, 4, 4))
        >>> weights = delta_memory_weights(q, k, log_decay, write)
        >>> torch.testing.assert_close(weights[:, 0] @ v[:, :, 0], reads[:, :, 0])
    """
    q, k = (x.movedim(2, 1).to(log_decay.dtype) for x in (q, k))
    between = segment_sums(log_decay.movedim(2, 1)).exp()
    eta = write.movedim(2, 1)
    with torch.autocast(q.device.type, enabled=False):
        coupling = (eta[..., None] * (k @ k.mT) * between).tril(-1)
        own = torch.diag_embed(eta)
        solved = torch.linalg.solve_triangular(coupling, own, upper=False, unitriangular=True)
        return ((q @ k.mT) * between) @ solved
