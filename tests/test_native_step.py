"""The kernel of one token per row against the same step in torch."""

from contextlib import nullcontext

import pytest
import torch
from helpers import error, randomise, state_error
from native import needs_kernels
from torch.utils._python_dispatch import TorchDispatchMode

from liquidlm.errors import LiquidError
from liquidlm.model.config import LiquidConfig
from liquidlm.model.native_step import NativeStep
from liquidlm.model.pretrained import LiquidTextGenerationModel
from liquidlm.model.step import LiquidStep
from liquidlm.model.torch_step import TorchStep
from liquidlm.ops.native.step import has_dots

pytestmark = needs_kernels

SIZES = {"vocab_size": 71, "embedding_dim": 12, "latent_dim": 8, "hidden_size": 16, "ngram_rows": 40}
SMALL = {"flow_hidden_dim": 8, "num_flows": 2, "num_heads": 2, "chunk_size": 8}
ODD = {"hidden_size": 30, "num_heads": 6, "intermediate_size": 43, "vocab_size": 37, "ngram_rows": 0}
KINDS = {"mixer_types": ["time", "nonlinear", "memory", "nonlinear"]}
TIMED = {"time_scale": 3.0, "memory_scale": 50.0, "time_components": 4}
OPTIONS = [
    {},
    ODD,
    {"conv_width": 1},
    {"conv_width": 2, "num_writes": 3},
    KINDS,
    KINDS | ODD,
    TIMED,
    KINDS | TIMED,
]
GAPS = (1.0, 0.0, 2.7, 1e6, 1e30)


def build(**options):
    torch.manual_seed(0)
    config = LiquidConfig(**(SIZES | SMALL | options))
    return randomise(LiquidTextGenerationModel(config)).eval()


def rounded(parts: TorchStep, weights: str) -> TorchStep:
    """The parts with every matrix rounded as the kernel holds it."""

    def change(x):
        if weights == "bf16":
            return x.bfloat16().float()
        scale = (x.abs().amax(0).clamp(min=1e-30) / 127).bfloat16()
        return (x / scale).round() * scale

    if weights == "float32":
        return parts
    parts.output = change(parts.output)
    if parts.ngrams is not None:
        parts.ngrams.proj = change(parts.ngrams.proj)
    for block in parts.blocks:
        cell, hidden = block.cell, len(block.cell.leak)
        encode, synapse = cell.weight.split([cell.sizes[0] + 1, cell.sizes[2]], 1)
        if cell.of_state is None:
            encode = change(encode)
        else:
            both = change(torch.cat([torch.nn.functional.pad(cell.of_state, (0, 1)), encode]))
            cell.of_state, encode = both[:hidden, :-1].contiguous(), both[hidden:]
        both = change(torch.cat([synapse, cell.of_encoder]))
        cell.weight, cell.of_encoder = torch.cat([encode, both[:hidden]], 1), both[hidden:].contiguous()
        for name in ("out", "gate_up", "down"):
            setattr(block, name, change(getattr(block, name)))
        if block.memory is not None:
            block.memory.weight = change(block.memory.weight)
    return parts


class RoundedInputs(TorchDispatchMode):
    """Rounds the inputs of every product with a matrix to bf16, as DOTS does."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        place = {torch.ops.aten.mm.default: 0, torch.ops.aten.addmm.default: 1}.get(func)
        if place is not None:
            args = [x.bfloat16().float() if i == place else x for i, x in enumerate(args)]
        return func(*args, **(kwargs or {}))


def differences(model, weights="float32", rows=3, gaps=GAPS):
    """The largest difference of logits, features and states over a few tokens. Both round in float32."""
    native, own = LiquidStep(model, weights=weights), LiquidStep(model)
    assert isinstance(native.form, NativeStep)
    own.form = rounded(TorchStep(model), weights)
    ids = torch.randint(3, 37, (rows, 8), generator=torch.Generator().manual_seed(0))
    mine = model(ids).state
    theirs, worst = mine.copy(), 0.0
    for i, gap in enumerate(gaps):
        logits, features = native.read(ids[:, i], mine, gap)
        with RoundedInputs() if weights != "float32" and has_dots() else nullcontext():
            whole, of_time = own.read(ids[:, i], theirs, gap)
        worst = max(worst, error(logits, whole))
        if of_time is not None:
            worst = max(worst, error(features, of_time))
    return max(worst, *(state_error(a, b) for a, b in zip(mine.states(), theirs.states(), strict=True)))


@pytest.mark.parametrize("rows", [1, 3, 32])
@pytest.mark.parametrize("options", OPTIONS)
def test_a_step_in_float32_is_that_of_torch(options, rows):
    assert differences(build(**options), rows=rows) < 2e-5


@pytest.mark.parametrize("weights", ["bf16", "int8"])
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("rows", [1, 5, 19])
@pytest.mark.parametrize("dots", [False, True])
def test_narrow_weights_are_those_of_torch_rounded(dots, rows, options, weights, monkeypatch):
    if not dots:
        monkeypatch.setattr("liquidlm.ops.native.step.has_dots", lambda: False)
        monkeypatch.setattr("test_native_step.has_dots", lambda: False)
    elif not has_dots():
        pytest.skip("this processor has no products of bf16")
    # A last bit can turn the rounding of an input, which is 4e-3 of it.
    assert differences(build(**options), weights, rows=rows) < (1e-2 if dots else 5e-5)


LONG = 21
"""Tokens; over the rows of a tile, and odd."""


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("options", [options for options in OPTIONS if "mixer_types" not in options])
def test_tokens_are_read_as_by_the_model(options, begun, rows):
    """Logits and features after every token, and the state, in pieces of every length."""
    model = build(**options)
    ids = torch.randint(3, 37, (rows, LONG), generator=torch.Generator().manual_seed(0))
    times = torch.rand(rows, LONG, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    times = (9 * times * (times > 0.3)).cumsum(1) + 1.7e9
    with torch.no_grad():
        state = model(ids[:, :2], timestamps=times[:, :2] - 50).state if begun else model.new_state()
        theirs, step = state.copy(), LiquidStep(model)
        whole = model(ids, timestamps=times, past_key_values=theirs)
    for length in (1, 2, 7, LONG):
        mine, logits, features = state.copy(), [], []
        for first in range(0, LONG, length):
            part = slice(first, first + length)
            found = step.read_events(ids[:, part], mine, times[:, part], every=True)
            logits.append(found[0])
            features.append(found[1])
        last, last_features = step.read_events(ids, state.copy(), times)
        assert error(torch.cat(logits, 1), whole.logits) < 2e-5
        assert error(last, whole.logits[:, -1:]) < 2e-5
        if whole.features is not None:
            assert error(torch.cat(features, 1), whole.features) < 2e-5
            assert error(last_features, whole.features[:, -1:]) < 2e-5
        assert max(state_error(a, b) for a, b in zip(mine.states(), theirs.states(), strict=True)) < 2e-5
        assert torch.equal(mine.last_time, theirs.last_time)
        assert mine.get_seq_length() == theirs.get_seq_length()


@pytest.mark.parametrize("weights", ["float32", "bf16", "int8"])
@pytest.mark.parametrize("dots", [False, True])
def test_the_bits_depend_on_no_other_row_and_on_no_cut(dots, weights, monkeypatch):
    if not dots:
        monkeypatch.setattr("liquidlm.ops.native.step.has_dots", lambda: False)
    model = build(**TIMED, hidden_size=48, vocab_size=131)
    step = LiquidStep(model, weights=weights)
    ids = torch.randint(3, 131, (11, LONG), generator=torch.Generator().manual_seed(0))
    whole = model.new_state()
    logits, features = step.read_events(ids, whole, every=True)
    for rows in ([0], [3, 7], [1, 2, 9], list(range(9))):
        for cuts in ([LONG], [1] * LONG, [2, 1, 8, 10], [17, 4]):
            state, found = model.new_state(), []
            for part in ids[rows].split(cuts, 1):
                found.append(step.read_events(part, state, every=True))
            assert torch.equal(torch.cat([one for one, _ in found], 1), logits[rows])
            assert torch.equal(torch.cat([one for _, one in found], 1), features[rows])
            for mine, all_rows in zip(state.states(), whole.states(), strict=True):
                for name, part in mine.moving().items():
                    assert torch.equal(part, all_rows.moving()[name][rows])


def test_tokens_without_times_are_one_unit_apart():
    model, ids = build(), torch.arange(3, 33).view(2, 15)
    mine, theirs, step = model.new_state(), model.new_state(), LiquidStep(model)
    for part in ids.split([1, 9, 5], 1):
        logits, _ = step.read_events(part, mine)
        with torch.no_grad():
            whole = model(part, past_key_values=theirs)
        assert error(logits, whole.logits[:, -1:]) < 2e-5
    assert torch.equal(mine.last_time, theirs.last_time)


def test_a_cell_that_sees_its_state_is_read_by_the_model():
    model, ids = build(**KINDS), torch.arange(3, 33).view(2, 15)
    mine, theirs = model.new_state(), model.new_state()
    logits, _ = LiquidStep(model).read_events(ids, mine, every=True)
    with torch.no_grad():
        assert error(logits, model(ids, past_key_values=theirs).logits) < 2e-5
    assert max(state_error(a, b) for a, b in zip(mine.states(), theirs.states(), strict=True)) < 2e-5


def test_two_threads_give_the_same_bits_as_one(monkeypatch):
    model, ids = build(hidden_size=256, vocab_size=700, **KINDS), torch.arange(3, 35).view(16, 2)
    results = []
    for threads in (1, 2, 5):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        state = model(ids).state
        results.append((LiquidStep(model)(ids[:, 0], state), state.states()[2].memory))
    assert all(torch.equal(x, y) for other in results[1:] for x, y in zip(results[0], other, strict=True))


def test_the_given_states_are_not_changed():
    model, ids = build(), torch.arange(3, 15).view(2, 6)
    state = model(ids).state
    before = [part.clone() for one in state.states() for part in one.moving().values()]
    kept = state.copy()
    LiquidStep(model)(ids[:, 0], state)
    assert all(
        torch.equal(x, y)
        for x, y in zip(before, (p for one in kept.states() for p in one.moving().values()), strict=True)
    )


@pytest.mark.parametrize(
    "other", [{"hidden_size": 24}, {"conv_width": 3}, {"num_heads": 1}, {"ngram_rows": 0}]
)
def test_a_state_of_another_model(other):
    with pytest.raises(LiquidError, match="does not fit"):
        LiquidStep(build())(torch.tensor([5]), build(**other)(torch.tensor([[5]])).state)


@pytest.mark.parametrize("token", [-1, 71])
def test_an_id_outside_the_vocabulary(token):
    model = build()
    state = model(torch.tensor([[5]])).state
    with pytest.raises(IndexError, match="outside 0…70"):
        LiquidStep(model)(torch.tensor([token]), state)


def test_float64_and_mixers_of_ones_own_stay_with_torch():
    assert isinstance(LiquidStep(build().double(), weights="int8").form, TorchStep)


def test_the_kernel_works_in_the_same_memory_again():
    """States that are kept would settle between blocks of rising sizes: a server's memory would grow."""
    model = build()
    step, kept = LiquidStep(model), set()
    for length in (40, *range(33, 60), 1):
        step.read_events(torch.zeros(1, length, dtype=torch.long), model.new_state())
        kept |= {work.data_ptr() for work in step.form._plan._spare}
    assert len(kept) == 1
