"""The cross-entropy of the output layer, in slices, and log-probabilities beside it."""

import pytest
import torch
import torch.nn.functional as F
from helpers import error, normal

from liquidlm.ops import linear_cross_entropy, linear_log_probs


def loss_inputs(dtype=torch.float64):
    hidden, weight = normal(3, 7, 6, dtype=dtype), normal(11, 6, seed=1, dtype=dtype)
    targets = torch.randint(11, (3, 7), generator=torch.Generator().manual_seed(2))
    targets[0, 2:5] = targets[2, -1] = -100
    return hidden.requires_grad_(), weight.requires_grad_(), targets


def test_the_loss_of_tokens_that_all_but_cannot_be():
    hidden, weight, targets = loss_inputs(torch.float32)
    hidden = (hidden.detach() * 300).requires_grad_()
    exact = plain_loss(hidden, weight, targets)
    assert exact > 1000 and error(linear_cross_entropy(hidden, weight, targets, 4), exact) < 1e-6


def plain_loss(hidden, weight, targets):
    logits = (hidden @ weight.mT).flatten(0, -2)
    return F.cross_entropy(logits, targets.flatten(), reduction="sum", ignore_index=-100)


@pytest.mark.parametrize("chunk", [1, 2, 5, 21, 2048])
def test_linear_cross_entropy_equals_cross_entropy(chunk):
    hidden, weight, targets = loss_inputs()
    exact, fast = plain_loss(hidden, weight, targets), linear_cross_entropy(hidden, weight, targets, chunk)
    assert error(fast, exact) < 1e-12
    grads = [torch.autograd.grad(-0.7 * loss, (hidden, weight)) for loss in (fast, exact)]
    for a, b in zip(*grads, strict=True):
        assert error(a, b) < 1e-12
    assert grads[0][0][0, 2:5].abs().max() == 0


def test_linear_cross_entropy_of_ignored_targets_alone_is_zero():
    hidden, weight, targets = loss_inputs()
    loss = linear_cross_entropy(hidden, weight, torch.full_like(targets, -100))
    assert loss == 0 and all(grad.abs().max() == 0 for grad in torch.autograd.grad(loss, (hidden, weight)))


@pytest.mark.parametrize("frozen", ["hidden", "weight"])
def test_linear_cross_entropy_needs_only_the_gradients_asked_for(frozen):
    hidden, weight, targets = loss_inputs()
    asked = weight if frozen == "hidden" else hidden
    exact = torch.autograd.grad(plain_loss(hidden, weight, targets), asked)[0]
    (hidden if frozen == "hidden" else weight).requires_grad_(False)
    fast = torch.autograd.grad(linear_cross_entropy(hidden, weight, targets, 4), asked)[0]
    assert error(fast, exact) < 1e-12


def test_linear_cross_entropy_under_bfloat16_autocast():
    hidden, weight, targets = loss_inputs(torch.float32)
    exact = plain_loss(hidden, weight, targets)
    with torch.autocast("cpu", torch.bfloat16):
        fast = linear_cross_entropy(hidden, weight, targets, 4)
    assert fast.dtype == torch.float32 and fast.item() == pytest.approx(exact.item(), rel=1e-2)
    for a, b in zip(*(torch.autograd.grad(loss, (hidden, weight)) for loss in (fast, exact)), strict=True):
        assert a.dtype == torch.float32 and error(a, b) < 2e-2


@pytest.mark.parametrize("chunk", [4, 64])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_log_probabilities_of_other_ids_come_with_the_loss(dtype, chunk):
    """Also where a probability is 0 in float32; they have no gradient."""
    torch.manual_seed(0)
    hidden = torch.randn(11, 6).to(dtype).requires_grad_()
    weight = (30 * torch.randn(9, 6)).to(dtype).requires_grad_()
    targets, others = torch.randint(0, 9, (11,)), torch.randint(0, 9, (11, 4))
    loss, log_p = linear_log_probs(hidden, weight, targets, others, chunk)
    exact = (hidden @ weight.mT).to(log_p.dtype).log_softmax(-1)
    torch.testing.assert_close(log_p, exact.gather(1, others))
    torch.testing.assert_close(loss, -exact.gather(1, targets[:, None]).sum())
    assert not log_p.requires_grad and log_p.min() < -104
    mine = torch.autograd.grad(loss, [hidden, weight])
    plain = torch.autograd.grad(linear_cross_entropy(hidden, weight, targets, chunk), [hidden, weight])
    for one, same in zip(mine, plain, strict=True):
        assert torch.equal(one, same)
    with torch.no_grad():
        assert torch.equal(linear_log_probs(hidden, weight, targets, others, chunk)[1], log_p)
    empty, none = linear_log_probs(hidden[:0], weight, targets[:0], others[:0])
    assert empty == 0 and none.shape == (0, 4)
