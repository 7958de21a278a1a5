"""The whole model: construction, causality, state, padding, packing and time."""

import pytest
import torch
from helpers import LEFT, MIDDLE, MIXED, RIGHT, error, event_times, normal
from small_model import SIZES, SMALL, VOCAB, parameter_gradients, states_error, tiny, tokens

from liquidlm.errors import LiquidError
from liquidlm.model.config import LiquidConfig
from liquidlm.model.folded import FoldedEmbedding
from liquidlm.model.pretrained import LiquidTextGenerationModel
from liquidlm.nn.embedding import OptimizedLiquidEmbeddingMFR
from liquidlm.nn.timestamps import generate_timestamps

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


@pytest.mark.parametrize("keep", [0, 1, 9, torch.tensor([0, 30, 49])])
def test_only_the_logits_asked_for(monkeypatch, keep):
    monkeypatch.setattr("liquidlm.model.segments.SEGMENT", 14)
    model, ids = tiny(), tokens(2, 50)
    whole, some = model(ids).logits, model(ids, logits_to_keep=keep).logits
    expected = whole[:, keep] if isinstance(keep, torch.Tensor) else whole[:, -keep:]
    assert error(some, expected) < 1e-12


def test_the_folded_table_gives_the_same_logits():
    model, ids = tiny(), tokens()
    table = FoldedEmbedding(model)
    folded = model(ids, table=table)
    assert error(folded.logits, model(ids).logits) < 1e-12 and folded.log_det is None
    with pytest.raises(LiquidError, match=r"id 64 at row 1, position 0"):
        model(torch.tensor([[1], [VOCAB]]), table=table)


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
