"""The whole model against its mathematics: causality, state, padding, packing, loss and time."""

import pytest
import torch
import torch.nn.functional as F
from helpers import LEFT, MIDDLE, MIXED, RIGHT, error, event_times, normal, randomise, state_error

from liquidlm.errors import LiquidError
from liquidlm.model.config import LiquidConfig
from liquidlm.model.folded import FoldedEmbedding
from liquidlm.model.language_model import LiquidTextGenerationModel
from liquidlm.nn.embedding import OptimizedLiquidEmbeddingMFR
from liquidlm.nn.timestamps import generate_timestamps

VOCAB = 64
SIZES = {"vocab_size": VOCAB, "embedding_dim": 12, "latent_dim": 8, "hidden_size": 16}
SMALL = {
    "flow_hidden_dim": 8,
    "num_flows": 2,
    "num_heads": 2,
    "chunk_size": 8,
    "ngram_rows": 40,
    "dropout_rate": 0.0,
}


def tiny(**options):
    """Four layers, of which the second has a memory; random parameters, float64."""
    torch.manual_seed(0)
    return randomise(LiquidTextGenerationModel(**(SIZES | SMALL | options))).double().eval()


def tokens(batch=2, length=40, seed=0, low=0, high=VOCAB):
    return torch.randint(low, high, (batch, length), generator=torch.Generator().manual_seed(seed))


def parameter_gradients(model, loss):
    """Of every parameter, as one vector."""
    found = torch.autograd.grad(loss, list(model.parameters()), materialize_grads=True)
    return torch.cat([gradient.flatten() for gradient in found])


def states_error(a, b):
    return max(state_error(p, q) for p, q in zip(a.states(), b.states(), strict=True))


# ---- construction


@pytest.mark.parametrize(
    "model",
    [
        lambda: LiquidTextGenerationModel(VOCAB, 12, 8, 16, **SMALL),
        lambda: LiquidTextGenerationModel(**SIZES, **SMALL),
        lambda: LiquidTextGenerationModel(LiquidConfig(**SIZES, **SMALL)),
    ],
    ids=["positional", "keyword", "config"],
)
def test_built_by_sizes_or_by_config(model):
    model = model()
    assert isinstance(model.embedding, OptimizedLiquidEmbeddingMFR)
    assert model.embedding.embedding.weight.shape == (VOCAB, 12) and model.output_proj.weight.shape == (
        VOCAB,
        16,
    )
    assert model.config.mixer_types == ["time", "memory", "time", "time"]
    has_memory = [state.memory is not None for state in model.eval()(tokens()).state.states()]
    assert has_memory == [False, True, False, False]


def test_the_example_of_the_design():
    model = tiny()
    input_ids, attention_mask = tokens(3, 9), torch.ones(3, 9, dtype=torch.long)
    t_span = torch.linspace(0, 1, steps=5)
    output = model(input_ids, attention_mask, t_span, generate_timestamps(3, 9))
    assert output.logits.shape == (3, 9, VOCAB) and output.log_det.shape == (3, 9) and output.loss is None
    assert output.state is output.past_key_values and output.state.get_seq_length() == 9
    assert error(output.logits, model(input_ids).logits) < 1e-12  # these are the defaults
    longer = model(input_ids, attention_mask, torch.linspace(0, 3, steps=5)).logits
    assert error(output.logits, longer) > 1e-3  # and t_span matters


# ---- causality and state


@pytest.mark.parametrize("position", [0, 7, 8, 25])
def test_a_token_changes_the_logits_from_itself_on(position):
    model, ids = tiny(), tokens(1, 40)
    other = ids.clone()
    other[0, position] = (ids[0, position] + 1) % VOCAB
    change = (model(ids).logits - model(other).logits).abs().amax(-1)[0]
    assert (change[:position] < 1e-12).all()
    assert change[position] > 1e-3 and (change[position:] > 1e-9).all()


@pytest.mark.parametrize("irregular", [False, True])
@pytest.mark.parametrize("chunk", [1, 3, 7, 64])
def test_in_chunks_then_token_by_token_is_one_forward(chunk, irregular):
    model, ids = tiny(), tokens(2, 45)
    times = event_times(2, 45) if irregular else None
    whole = model(ids, timestamps=times)
    state, logits, first = model.new_state(), [], 0
    while first < 45:
        part = slice(first, first + (chunk if first < 35 else 1))
        some = None if times is None else times[:, part]
        logits.append(model(ids[:, part], timestamps=some, past_key_values=state).logits)
        first = min(part.stop, 45)
    assert error(torch.cat(logits, 1), whole.logits) < 1e-12
    assert states_error(state, whole.state) < 1e-12 and state.get_seq_length() == 45


def test_a_given_state_is_brought_up_to_date_and_a_copy_of_it_is_not():
    model, ids = tiny(), tokens()
    state = model(ids[:, :20]).state
    copy = state.copy()
    first = model(ids[:, 20:], past_key_values=state)
    assert first.past_key_values is state and state.get_seq_length() == 40 and copy.get_seq_length() == 20
    assert error(model(ids[:, 20:], past_key_values=copy).logits, first.logits) == 0


def test_nothing_is_kept_on_the_model():
    model, ids = tiny(), tokens()
    before = model(ids).logits
    model(tokens(3, 11, seed=5))
    assert torch.equal(model(ids).logits, before)


# ---- padding


def padded_batch():
    """Four rows of 12 tokens at irregular times; and spread over 16 positions, each in its own way."""
    mask = torch.tensor([LEFT, RIGHT, MIDDLE, MIXED])
    ids, times = tokens(4, 12), event_times(4, 12)
    wide, wide_times = tokens(4, 16, seed=9), 1e6 * normal(4, 16)
    wide_times[:, ::3] = torch.nan
    wide[mask.bool()], wide_times[mask.bool()] = ids.flatten(), times.flatten()
    return ids, times, wide, wide_times, mask


def test_padding_anywhere_changes_nothing():
    model = tiny()
    ids, times, wide, wide_times, mask = padded_batch()
    alone, padded = model(ids, timestamps=times), model(wide, mask, timestamps=wide_times)
    at = mask.bool()
    assert error(padded.logits[at], alone.logits.flatten(0, 1)) < 1e-12
    assert error(padded.log_det[at], alone.log_det.flatten()) < 1e-12
    assert torch.equal(padded.log_det[~at], torch.zeros(16).double())
    assert states_error(padded.state, alone.state) < 1e-12
    weights = normal(48, VOCAB)
    assert (
        error(
            parameter_gradients(model, (padded.logits[at] * weights).sum()),
            parameter_gradients(model, (alone.logits.flatten(0, 1) * weights).sum()),
        )
        < 1e-12
    )


@pytest.mark.parametrize("so_far", [False, True], ids=["mask of the chunk", "mask of all so far"])
@pytest.mark.parametrize("chunk", [1, 2, 3, 5])
def test_padded_in_chunks_of_which_some_are_padding_only(chunk, so_far):
    model = tiny()
    ids, times, wide, wide_times, mask = padded_batch()
    alone = model(ids, timestamps=times)
    state, logits = model.new_state(), []
    for first in range(0, 16, chunk):
        part = slice(first, min(first + chunk, 16))
        seen = mask[:, : part.stop] if so_far else mask[:, part]
        logits.append(
            model(wide[:, part], seen, timestamps=wide_times[:, part], past_key_values=state).logits
        )
    assert error(torch.cat(logits, 1)[mask.bool()], alone.logits.flatten(0, 1)) < 1e-12
    assert states_error(state, alone.state) < 1e-12


# ---- packing

LENGTHS = (5, 1, 11, 8, 15)


def document_marks(way):
    positions = torch.cat([torch.arange(n) for n in LENGTHS])[None]
    numbers = torch.cat([torch.full((n,), i) for i, n in enumerate(LENGTHS)])[None]
    return {"starts": positions == 0, "position_ids": positions, "seq_idx": numbers}[way]


@pytest.mark.parametrize("way", ["starts", "position_ids", "seq_idx"])
def test_packed_documents_are_separate_documents(way):
    model, ids = tiny(), tokens(1, sum(LENGTHS))
    times = torch.cat([event_times(1, n, seed=n) for n in LENGTHS], 1)
    packed = model(ids, timestamps=times, **{way: document_marks(way)})
    parts = list(zip(ids.split(LENGTHS, 1), times.split(LENGTHS, 1), strict=True))
    alone = [model(part, timestamps=when) for part, when in parts]
    logits = torch.cat([one.logits for one in alone], 1)
    assert error(packed.logits, logits) < 1e-12
    assert states_error(packed.state, alone[-1].state) < 1e-12
    weights = normal(*logits.shape)
    assert (
        error(
            parameter_gradients(model, (packed.logits * weights).sum()),
            parameter_gradients(model, (logits * weights).sum()),
        )
        < 1e-12
    )


def test_a_new_document_after_a_state_forgets_it():
    model, ids = tiny(), tokens()
    state = model(ids[:, :20]).state
    starts = torch.zeros(2, 20, dtype=torch.bool)
    starts[0, 0] = True
    after = model(ids[:, 20:], starts=starts, past_key_values=state)
    assert error(after.logits[:1], model(ids[:1, 20:]).logits) < 1e-12
    assert error(after.logits[1:], model(ids[1:]).logits[:, 20:]) < 1e-12


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
        monkeypatch.setattr("liquidlm.model.body.SEGMENT", segment)
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


@pytest.mark.parametrize("keep", [0, 1, 9, torch.tensor([0, 30, 49])])
def test_only_the_logits_asked_for(monkeypatch, keep):
    monkeypatch.setattr("liquidlm.model.body.SEGMENT", 14)
    model, ids = tiny(), tokens(2, 50)
    whole, some = model(ids).logits, model(ids, logits_to_keep=keep).logits
    expected = whole[:, keep] if isinstance(keep, torch.Tensor) else whole[:, -keep:]
    assert error(some, expected) < 1e-12


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


def test_the_folded_table_gives_the_same_logits():
    model, ids = tiny(), tokens()
    table = FoldedEmbedding(model)
    folded = model(ids, table=table)
    assert error(folded.logits, model(ids).logits) < 1e-12 and folded.log_det is None
    with pytest.raises(LiquidError, match=r"id 64 at row 1, position 0"):
        model(torch.tensor([[1], [VOCAB]]), table=table)


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


# ---- time


def test_other_gaps_give_other_logits():
    model, ids = tiny(), tokens(1, 20)
    times = generate_timestamps(1, 20)
    later = times.clone()
    later[:, 10:] += 5.0
    change = (model(ids, timestamps=times).logits - model(ids, timestamps=later).logits).abs().amax(-1)[0]
    assert (change[:10] == 0).all() and (change[10:] > 1e-6).all() and change[10] > 1e-3
    shift = model(ids, timestamps=times + 1e9).logits
    assert error(shift, model(ids, timestamps=times).logits) < 1e-12  # only gaps count


@pytest.mark.parametrize("memory", [{}, {"memory_scale": 20.0}])
def test_the_unit_of_time_is_the_config(memory):
    ids, times = tokens(), event_times(2, 40)
    seconds = tiny(time_scale=0.5, **memory)
    milliseconds = tiny(time_scale=500.0, **{name: 1000 * scale for name, scale in memory.items()})
    a, b = seconds(ids, timestamps=times).logits, milliseconds(ids, timestamps=1000 * times).logits
    assert error(a, b) < 1e-10 and error(a, milliseconds(ids, timestamps=times).logits) > 1e-3


def test_with_a_memory_scale_an_event_counts_as_much_as_that_gap():
    """The same elapses by gaps alone as by a unit for every event and a tenth of the gaps."""
    ids, gaps = tokens(2, 40), torch.randint(0, 5, (2, 40)).double() * 10
    both = []
    for model, times, before in (
        (tiny(memory_scale=10.0), gaps.cumsum(1), 0.0),
        (tiny(), (1 + gaps / 10).cumsum(1), 1.0),
    ):
        for block in model.blocks:
            block.mixer.conv.gap_scale.data.zero_()  # it sees the gap itself
        state = model.new_state()
        empty = model.initial_states(2, torch.float64, ids.device)
        for layer, own in zip(state.layers, empty, strict=True):
            layer.store(own._replace(time=times[:, 0] - before), 0)
        both.append(model(ids, timestamps=times, past_key_values=state).logits)
    assert error(*both) < 1e-12


def test_without_timestamps_events_are_one_unit_apart():
    model, ids = tiny(), tokens(2, 40)
    times = torch.arange(40).expand(2, -1)
    absent = model(ids)
    assert error(model(ids, timestamps=times).logits, absent.logits) == 0
    assert error(model(ids, timestamps=times.float() + 7.0).logits, absent.logits) == 0
    assert absent.state.states()[0].time.tolist() == [39.0, 39.0]
    state = model(ids[:, :20], timestamps=times[:, :20] + 100.5).state
    assert error(model(ids[:, 20:], past_key_values=state).logits, absent.logits[:, 20:]) < 1e-12


# ---- errors


def times_with(position, value):
    times = torch.arange(10.0, dtype=torch.float64).repeat(2, 1)
    times[1, position] = value
    return times


BAD = {
    r"id 64 at row 1, position 3": lambda m, x: m(
        x.index_put((torch.tensor(1), torch.tensor(3)), torch.tensor(64))
    ),
    r"id -1 at row 0, position 2": lambda m, x: m(
        x.index_put((torch.tensor(0), torch.tensor(2)), torch.tensor(-1))
    ),
    r"row 1, position 6 .* decrease": lambda m, x: m(x, timestamps=times_with(6, 4.5)),
    r"row 1, position 5 .* finite": lambda m, x: m(x, timestamps=times_with(5, torch.nan)),
    r"row 1, position 0 .* finite": lambda m, x: m(x, timestamps=times_with(0, -torch.inf)),
    r"at least one token, not \(2, 0\)": lambda m, x: m(x[:, :0]),
    r"input_ids must be .* not \(10,\)": lambda m, x: m(x[0]),
    r"attention_mask \(2, 9\) does not cover": lambda m, x: m(x, torch.ones(2, 9)),
    r"attention_mask \(1, 10\) does not cover": lambda m, x: m(x, torch.ones(1, 10)),
    r"timestamps must have the shape .*\(2, 10\), not \(2, 9\)": lambda m, x: m(
        x, timestamps=torch.arange(9).expand(2, 9)
    ),
    r"timestamps must have the shape .* not \(10,\)": lambda m, x: m(x, timestamps=torch.arange(10)),
    r"timestamps must have the shape .* not \(2, 12\)": lambda m, x: m(
        x, torch.tensor([[0] + [1] * 9] * 2), timestamps=torch.arange(12).expand(2, 12)
    ),
    r"starts must have the shape .* not \(2, 12\)": lambda m, x: m(
        x, torch.tensor([[0] + [1] * 9] * 2), starts=torch.zeros(2, 12, dtype=torch.bool)
    ),
    r"seq_idx must have the shape .* not \(2, 9\)": lambda m, x: m(
        x, seq_idx=torch.zeros(2, 9, dtype=torch.long)
    ),
    r"layer 0 has shape \(3, 16\), not \(2, 16\)": lambda m, x: m(x, past_key_values=m(tokens(3, 4)).state),
    r"state has 3 layers, the model 4": lambda m, x: m(x, past_key_values=tiny(num_hidden_layers=3)(x).state),
    r"memory of layer 0": lambda m, x: m(x, past_key_values=tiny(mixer_types=["memory"] * 4)(x).state),
    r"id -7 at row 0, position 3": lambda m, x: m(
        x, labels=x.index_put((torch.tensor(0), torch.tensor(4)), torch.tensor(-7))
    ),
    r"labels must have the shape .* not \(2, 9\)": lambda m, x: m(x, labels=x[:, 1:]),
}


@pytest.mark.parametrize("match", BAD)
def test_mistakes_are_named(as_users_run, match):
    with pytest.raises(LiquidError, match=match):
        BAD[match](tiny(), tokens(2, 10))
