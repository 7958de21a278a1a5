"""The loss of the language model and its gradients: labels, flow, checkpoints, segments, precision."""

import pytest
import torch
import torch.nn.functional as F
from helpers import error, event_times, randomise
from small_model import SMALL, parameter_gradients, states_error, tiny, tokens

from liquidlm.model.pretrained import LiquidTextGenerationModel

# ---- loss


def labels_of(ids):
    """The tokens themselves, a third of them not to count."""
    return ids.masked_fill(tokens(*ids.shape, seed=3) % 3 == 0, -100)


def shifted(ids):
    return F.pad(labels_of(ids)[:, 1:], (0, 1), value=-100)


def plain_loss(model, ids, reduction="mean"):
    logits = model(ids).logits[:, :-1]
    return F.cross_entropy(logits.flatten(0, 1), labels_of(ids)[:, 1:].flatten(), reduction=reduction)


@pytest.mark.parametrize("loss_chunk", [7, 2048])
def test_labels_are_shifted_and_ignored_ones_do_not_count(loss_chunk):
    model, ids = tiny(loss_chunk=loss_chunk), tokens()
    expected = plain_loss(model, ids)
    output = model(ids, labels=labels_of(ids))
    assert error(output.loss, expected) < 1e-12 and error(output.logits, model(ids).logits) == 0
    assert error(model(ids, shift_labels=shifted(ids)).loss, expected) < 1e-12
    total = plain_loss(model, ids, "sum")
    assert error(model(ids, labels=labels_of(ids), num_items_in_batch=100).loss, total / 100) < 1e-12
    items = torch.tensor(50)
    assert error(model(ids, shift_labels=shifted(ids), num_items_in_batch=items).loss, total / 50) < 1e-12
    assert model(ids, labels=torch.full_like(ids, -100)).loss == 0


@pytest.mark.parametrize("weight", [0.0, 0.3])
def test_training_loss_adds_the_flow_and_has_the_plain_gradients(weight):
    model, ids = tiny(loss_chunk=7, flow_loss_weight=weight), tokens()
    expected = plain_loss(model, ids) + weight * model.embedding.flow_loss(ids)
    output = model.train()(ids, labels=labels_of(ids))
    assert output.past_key_values is None
    assert error(output.loss, expected) < 1e-12
    assert error(parameter_gradients(model, output.loss), parameter_gradients(model, expected)) < 1e-12


def test_every_parameter_learns():
    model, ids = tiny().train(), tokens(2, 60)
    model(ids, labels=ids, timestamps=event_times(2, 60)).loss.backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None or p.grad.abs().max() < 1e-12]


@pytest.mark.parametrize("carried", [False, True])
def test_activation_checkpointing_has_the_same_gradients(carried):
    model, ids = tiny(dropout_rate=0.2).train(), tokens()
    state = model(tokens(seed=1), use_cache=True).state.detach_()
    found, calls = [], []
    for block in model.blocks:
        block.mlp.register_forward_hook(lambda *_: calls.append(1))
    for checkpointing in (False, True):
        if checkpointing:
            model.recompute_activations()
        torch.manual_seed(1)
        given = state.copy() if carried else None
        found.append(parameter_gradients(model, model(ids, labels=ids, past_key_values=given).loss))
    assert error(*found) < 1e-12 and len(calls) == 3 * 4  # forward, forward, and again in backward


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("recomputed", [False, True])
def test_segments_are_one_pass(monkeypatch, training, padded, recomputed):
    """Loss, logits, hidden states, state and all gradients, in segments of 7 steps and in one."""
    ids, times = tokens(2, 50), event_times(2, 50)
    mask = torch.ones_like(ids)
    if padded:
        mask[0, :9], mask[1, 44:] = 0, 0
    starts = torch.zeros_like(ids, dtype=torch.bool)
    starts[0, 20] = starts[1, 21] = True
    found = []
    for segment in (4096, 14):
        monkeypatch.setattr("liquidlm.model.segments.SEGMENT", segment)
        model = tiny().train(training)
        if recomputed:
            model.recompute_activations()
        out = model(
            ids, mask, timestamps=times, labels=ids, starts=starts, use_cache=True, output_hidden_states=True
        )
        used = [p for p in model.parameters() if p.requires_grad]
        grads = torch.autograd.grad(out.loss, used, allow_unused=True)
        tensors = [out.loss, *out.hidden_states, out.logits]
        tensors += [part for state in out.state.states() for part in state if part is not None]
        found.append(tensors + [g for g in grads if g is not None])
    assert all(error(a, b) < 1e-11 for a, b in zip(*found, strict=True))


def test_bfloat16_weights_learn():
    ids, found = tokens(), []
    for seed in range(5):  # the middle one: a random model amplifies rounding now and then
        wide, low = (
            randomise(tiny(), seed, 0.1).to(dtype).train() for dtype in (torch.float, torch.bfloat16)
        )
        exact, rounded = (parameter_gradients(m, m(ids, labels=ids).loss).float() for m in (wide, low))
        found.append(torch.cosine_similarity(exact, rounded, dim=0).item())
    assert sorted(found)[2] > 0.97, found


def test_a_batch_of_padding_only_and_micro_batches():
    model, ids = tiny(flow_loss_weight=0.5).train(), tokens(2, 12)
    assert model(ids, torch.zeros_like(ids), labels=ids).loss.item() == 0
    out, labels = model(ids, labels=ids), 2 * 11
    halves = [model(ids[i : i + 1], labels=ids[i : i + 1], num_items_in_batch=labels) for i in (0, 1)]
    flows = sum(0.5 * half.flow_loss / 2 for half in halves)  # each weighs by its part of the tokens
    plain = out.loss - 0.5 * out.flow_loss
    assert error(sum(half.loss for half in halves), plain + flows) < 1e-12


def test_truncated_back_propagation():
    model = tiny().train()
    ids = torch.cat([tokens(high=30), tokens(low=30)], 1)
    whole = model(ids, use_cache=True)
    early = {}
    for truncated in (False, True):
        state = model(ids[:, :40], use_cache=True).state
        if truncated:
            state.detach_()
        later = model(ids[:, 40:], past_key_values=state, use_cache=True)
        assert error(later.logits, whole.logits[:, 40:]) < 1e-12 and states_error(state, whole.state) < 1e-12
        (gradient,) = torch.autograd.grad((later.logits**2).sum(), model.embedding.embedding.weight)
        early[truncated] = gradient[:30].abs().max().item()
        assert gradient[30:].abs().max() > 1e-3
    assert early[False] > 1e-3 and early[True] == 0


@pytest.mark.parametrize("kind", ["memory", "nonlinear"])
def test_it_learns_sequences_by_heart(kind):
    """64 sequences, each known by its first two tokens; nothing but context tells the others."""
    ids = tokens(64, 12, high=32)
    ids[:, 0], ids[:, 1] = torch.arange(64) % 32, torch.arange(64) // 32
    labels = ids.clone()
    labels[:, :2] = -100
    two = {"num_hidden_layers": 2, "mixer_types": ["time", kind]}
    model = LiquidTextGenerationModel(32, 24, 16, 48, **SMALL, **two).train()
    optimiser, steps = torch.optim.AdamW(model.parameters(), weight_decay=0.0), 50
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-2, total_steps=steps)
    for _ in range(steps):
        optimiser.zero_grad()
        model(ids, labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        output = model.eval()(ids, labels=labels)
    accuracy = (output.logits[:, 1:-1].argmax(-1) == ids[:, 2:]).double().mean()
    assert output.loss < 0.05 and accuracy > 0.995
