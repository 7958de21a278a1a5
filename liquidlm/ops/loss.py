"""Cross-entropy of a linear output layer, in slices, so that the logits never exist as a whole."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from .function import apply, in_own_precision

IGNORED = -100
"""A target that does not count."""
LOG_TINY = -60.0
"""Log-probabilities below this are computed again: as float32 probabilities they lose digits or are 0."""


class LinearCrossEntropy(torch.autograd.Function):
    """Σ −log softmax(hidden Wᵀ)[target] and its gradients, over slices of `chunk` tokens.

    The forward pass computes the gradients of a slice while it holds the logits. The backward pass only
    scales them. Matrix products follow autocast; softmax and sums are in float32 or wider. The
    log-probabilities of `others` have no gradient.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx, hidden: Tensor, weight: Tensor, targets: Tensor, others: Tensor, chunk: int
    ) -> tuple[Tensor, Tensor]:
        """The sum over tokens, and the log-probabilities of `others`; saves the gradients."""
        wide = torch.promote_types(hidden.dtype, torch.float32)
        needs_hidden, needs_weight = ctx.needs_input_grad[:2]  # pyright: ignore[reportAttributeAccessIssue]
        grad_hidden = torch.empty_like(hidden) if needs_hidden else None
        grad_weight = torch.zeros_like(weight, dtype=wide) if needs_weight else None
        total = hidden.new_zeros((), dtype=wide)
        of_others = hidden.new_empty(others.shape, dtype=wide)
        for first in range(0, len(hidden), chunk):
            rows, goal = hidden[first : first + chunk], targets[first : first + chunk]
            logits = F.linear(rows, weight)
            low = logits.dtype
            p = logits.softmax(-1, dtype=wide)  # one pass over (chunk, V): memory traffic is the cost
            index = goal[:, None]
            log_p = p.gather(1, index)[:, 0].log()
            if (lost := log_p < LOG_TINY).any():  # p is near underflow
                log_p[lost] = logits[lost].to(wide).log_softmax(-1).gather(1, index[lost])[:, 0]
            total -= log_p.sum()
            if others.shape[1]:
                scale = log_p - logits.gather(1, index)[:, 0]
                found = logits.gather(1, others[first : first + chunk])
                of_others[first : first + chunk] = found + scale[:, None]
            if grad_hidden is None and grad_weight is None:
                continue
            grad = p.scatter_add_(1, index, p.new_full(index.shape, -1.0)).to(low)
            if grad_hidden is not None:
                grad_hidden[first : first + chunk] = grad @ weight.to(low)
            if grad_weight is not None:
                grad_weight += grad.mT @ rows.to(low)
        if grad_weight is not None:
            grad_weight = grad_weight.to(weight.dtype)
        ctx.save_for_backward(grad_hidden, grad_weight)  # pyright: ignore[reportArgumentType]
        ctx.mark_non_differentiable(of_others)
        return total, of_others

    @staticmethod
    @once_differentiable
    @in_own_precision
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: FunctionCtx, grad: Tensor, of_others: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        """The saved gradients, scaled."""
        saved = ctx.saved_tensors  # pyright: ignore[reportAttributeAccessIssue]
        return *(None if part is None else part * grad.to(part.dtype) for part in saved), None, None, None


def linear_cross_entropy(
    hidden: Float[Tensor, "*b h"], weight: Float[Tensor, "v h"], targets: Int[Tensor, "*b"], chunk: int = 2048
) -> Float[Tensor, ""]:
    """The sum of the cross-entropy over tokens, in nats; targets of −100 do not count.

    Equals F.cross_entropy(hidden Wᵀ, targets, reduction="sum"), with at most (chunk, V) logits at a time.

    Args:
        hidden: (…, H) features of the tokens.
        weight: (V, H) W, the output layer.
        targets: (…) the ids to predict.
        chunk: tokens per slice.

    Example:
        >>> hidden, weight, targets = torch.randn(5, 8), torch.randn(20, 8), torch.arange(5)
        >>> loss = linear_cross_entropy(hidden, weight, targets, chunk=2)
        >>> torch.testing.assert_close(loss, F.cross_entropy(hidden @ weight.mT, targets, reduction="sum"))
    """
    tokens, targets = hidden.flatten(0, -2), targets.flatten()
    counted = targets != IGNORED
    if not bool(counted.all()):
        tokens, targets = tokens[counted], targets[counted]
    return apply(LinearCrossEntropy, tokens, weight, targets, targets.new_empty(len(targets), 0), chunk)[0]


def linear_log_probs(
    hidden: Float[Tensor, "n h"],
    weight: Float[Tensor, "v h"],
    targets: Int[Tensor, " n"],
    others: Int[Tensor, "n m"],
    chunk: int = 2048,
) -> tuple[Float[Tensor, ""], Float[Tensor, "n m"]]:
    """`linear_cross_entropy` of targets that all count, and log softmax(hidden Wᵀ) of other ids.

    The second has no gradient.

    Args:
        hidden, weight, targets, chunk: see `linear_cross_entropy`.
        others: M ids for each token.

    Example:
        >>> hidden, weight, targets = torch.randn(5, 8), torch.randn(20, 8), torch.arange(5)
        >>> loss, log_p = linear_log_probs(hidden, weight, targets, targets[:, None], chunk=2)
        >>> torch.testing.assert_close(loss, -log_p.sum())
    """
    return apply(LinearCrossEntropy, hidden, weight, targets, others, chunk)
