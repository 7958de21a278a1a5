"""What every mixer over events keeps to, with a memory and without: state, rows, time, padding, documents."""

import math
from itertools import pairwise

import pytest
import torch
from helpers import (
    HIDDEN,
    LEFT,
    MIDDLE,
    MIXED,
    RIGHT,
    error,
    gradients,
    inputs,
    mixer,
    normal,
    padded,
    rows,
    run,
    state_error,
    uniform,
)

from liquidlm.errors import LiquidError
from liquidlm.nn.cells import AsyncLiquidCell, NonlinearMixer, TimeMixer


@pytest.fixture(params=[TimeMixer, AsyncLiquidCell, NonlinearMixer], ids=lambda kind: kind.__name__)
def kind(request):
    return request.param


@pytest.fixture
def cell(kind):
    return mixer(kind)


# ---- one pass, or many


@pytest.mark.parametrize("conv_width", [1, 4])
@pytest.mark.parametrize("chunk", [1, 3, 7, 64])
def test_prefill_in_chunks_then_token_by_token_is_one_pass(kind, chunk, conv_width):
    cell, (x, times) = mixer(kind, conv_width=conv_width), inputs(2, 90)
    starts = uniform(2, 90, seed=5) < 0.05
    starts[0, 64] = starts[1, 65] = True
    whole, end = run(cell, x, times, starts=starts)
    pieces, state, first = [], None, 0
    while first < 90:
        part = slice(first, first + (chunk if first < 70 else 1))
        out, state = run(cell, x[:, part], times[:, part], state, starts=starts[:, part])
        pieces.append(out)
        first = part.stop
    assert error(torch.cat(pieces, 1), whole) < 1e-10
    assert state_error(state, end) < 1e-10


def test_without_times_events_are_one_unit_apart_across_calls(cell):
    x, _ = inputs(2, 20)
    whole, end = run(cell, x, torch.arange(20).expand(2, 20))
    first, state = run(cell, x[:, :13])
    second, state = run(cell, x[:, 13:], h=state)
    assert error(torch.cat([first, second], 1), whole) < 1e-12 and state_error(state, end) < 1e-12


def test_passing_the_state_where_nothing_happens_changes_nothing(cell):
    x, times = inputs(2, 12)
    _, before = run(cell, x, times)
    garbage, nan = 1e3 * normal(2, 5, HIDDEN, seed=9), torch.full((2, 5), math.nan).double()
    nothing = torch.zeros(2, 5, dtype=torch.long)
    out, after = run(cell, garbage, nan, before, nothing)
    assert out.abs().max() == 0 and state_error(after, before) == 0
    _, fresh = run(cell, garbage, nan, None, nothing)
    assert state_error(fresh, cell.initial_state(2, x.dtype, x.device)) == 0


def test_state_is_constant_in_size_and_gradients_pass_through_it(cell):
    x, times = inputs(2, 30)
    x.requires_grad_()
    whole = torch.autograd.grad(run(cell, x, times)[0][:, 20:].square().sum(), x)[0]
    _, state = run(cell, x[:, :20], times[:, :20])
    split = torch.autograd.grad(run(cell, x[:, 20:], times[:, 20:], state)[0].square().sum(), x)[0]
    assert error(split, whole) < 1e-10 and whole[:, :20].abs().max() > 0
    for part, empty in zip(state, cell.initial_state(2, x.dtype, x.device), strict=True):
        if part is not None:  # nor does a small view keep a long past alive
            assert part.shape == empty.shape and part.untyped_storage().nbytes() == empty.nbytes


# ---- rows


@pytest.mark.parametrize("batch", [3, HIDDEN])
def test_rows_with_their_own_times_are_rows_alone(cell, batch):
    # With as many rows as units or tokens, ncps takes the rows' times for the units'.
    x, times = inputs(batch, HIDDEN)
    whole, end = run(cell, x, times)
    for i in range(batch):
        alone, state = run(cell, x[i, None], times[i, None])
        assert error(whole[i, None], alone) < 1e-12
        assert state_error(rows(end, slice(i, i + 1)), state) < 1e-12


def test_permuting_the_rows_permutes_the_result(cell):
    x, times = inputs(5, 20)
    order = torch.tensor([3, 0, 4, 1, 2])
    (whole, end), (mixed, other) = run(cell, x, times), run(cell, x[order], times[order])
    assert error(mixed, whole[order]) < 1e-12 and state_error(other, rows(end, order)) < 1e-12


# ---- time


def test_times_matter_and_only_their_differences(cell):
    x, times = inputs(2, 20)
    out, _ = run(cell, x, times)
    assert error(run(cell, x, times + 2.0**30)[0], out) < 1e-4
    assert error(run(cell, x, times.round())[0], run(cell, x, times.round() + 2.0**40)[0]) < 1e-12
    later = times.clone()
    later[:, 10:] += 3.0  # one gap is longer
    changed = (run(cell, x, later)[0] - out).abs().amax((0, 2))
    assert changed[:10].max() < 1e-12 and changed[10:].min() > 1e-6


def test_times_and_their_scale_together_change_nothing(kind):
    x, times = inputs(2, 20)
    out, _ = run(mixer(kind), x, times)
    assert error(run(mixer(kind, time_scale=60.0), x, 60 * times)[0], out) < 1e-9
    assert (run(mixer(kind, time_scale=60.0), x, times)[0] - out).abs().max() > 1e-3


def test_tokens_at_the_same_time_are_all_written(kind):
    cell = mixer(kind, conv_width=1)  # the convolution alone would show them all
    x, times = inputs(2, 12)
    times[:, 3:6] = times[:, 3, None]
    times[:, 6:] = times[:, 3, None] + torch.arange(1, 7)
    out, _ = run(cell, x, times)
    for token in (3, 4, 5):
        other = x.clone()
        other[:, token] = normal(2, HIDDEN, seed=50 + token)
        assert (run(cell, other, times)[0] - out)[:, 6:].abs().amax(2).min() > 1e-6


@pytest.mark.parametrize("gap", [1e9, 1e30, 1e300])
def test_huge_gaps_are_finite_with_their_gradients(kind, gap):
    cell, x = mixer(kind).float(), normal(2, 40, HIDDEN, dtype=torch.float32).requires_grad_()
    gaps = torch.ones(2, 40).double()
    gaps[0, 20] = gaps[1, 7] = gaps[1, 8] = gap
    times = gaps.cumsum(1).requires_grad_()
    out, state = run(cell, x, times)
    leaves = (x, times, *cell.parameters())
    grads = gradients((out, *(p for p in state[:3] if p is not None)), leaves)
    assert out.isfinite().all() and all(p.isfinite().all() for p in state if p is not None)
    assert all(grad.isfinite().all() for grad in grads)


def test_gradients_reach_the_times(cell):
    x, times = normal(2, 10, HIDDEN), 2.0 * torch.arange(10).expand(2, 10).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda t: cell(x, t)[0][:, ::3, :2], times)


# ---- padding


@pytest.mark.parametrize("masks", [[LEFT] * 2, [RIGHT] * 2, [MIDDLE] * 2, [MIXED, LEFT]], ids=str)
@pytest.mark.parametrize("first", ["fresh", "bare h", "state"])
def test_padding_changes_nothing(cell, masks, first):
    x, times = inputs(2, 12)
    mask = torch.tensor(masks).bool()
    h = {"fresh": None, "bare h": normal(2, HIDDEN, seed=5)}.get(first)
    if first == "state":
        h = run(cell, *inputs(2, 6, seed=40))[1]
        times = times + 1e6
    exact, end = run(cell, x, times, h)
    wide, wide_times = padded(x, times, mask)
    wide.requires_grad_()
    out, state = run(cell, wide, wide_times, h, mask.long())
    assert error(out[mask].view_as(exact), exact) < 1e-12 and state_error(state, end) < 1e-12
    assert out[~mask].abs().max() == 0
    grad = torch.autograd.grad(out.square().sum() + state.h.sum() + state.conv.sum(), wide)[0]
    assert grad[~mask].abs().max() == 0


def test_padding_without_times_does_not_pass_time(cell):
    x, _ = inputs(2, 12)
    mask = torch.tensor([LEFT, MIDDLE]).bool()
    exact, end = run(cell, x)
    out, state = run(cell, padded(x, torch.zeros(2, 12).double(), mask)[0], mask=mask)
    assert error(out[mask].view_as(exact), exact) < 1e-12 and state_error(state, end) < 1e-12


# ---- documents


def test_documents_packed_in_a_row_are_documents_alone(cell):
    x, times = inputs(2, 30)
    cuts = (0, 11, 12, 14, 30)
    times[:, 12:] -= 1e5  # another document may be of another time
    starts = torch.zeros(2, 30, dtype=torch.bool)
    starts[:, cuts[1:-1]] = True
    x.requires_grad_()
    packed, end = run(cell, x, times, starts=starts)
    for first, last in pairwise(cuts):
        alone, state = run(cell, x[:, first:last], times[:, first:last])
        assert error(packed[:, first:last], alone) < 1e-12
    assert state_error(end, state) < 1e-12
    later = (packed[:, 14:], *(p for p in end[:3] if p is not None))
    leaves = (x, *cell.parameters())
    grads = gradients(later, leaves)
    assert grads[0][:, :14].abs().max() == 0
    alone = gradients((alone, *(p for p in state[:3] if p is not None)), leaves)
    assert all(error(a, b) < 1e-10 for a, b in zip(grads, alone, strict=True))


@pytest.mark.parametrize("conv_width", [1, 4])
@pytest.mark.parametrize("seed", range(4))
def test_any_padding_and_documents_at_once_after_a_state(kind, seed, conv_width):
    cell = mixer(kind, seed, conv_width=conv_width)
    before = run(cell, *inputs(4, 6, seed=40 + seed))[1]
    x, times = inputs(4, 24, seed=seed)
    times = times + 1e6
    mask, starts = uniform(4, 24, seed=seed + 1) < 0.7, uniform(4, 24, seed=seed + 2) < 0.15
    mask[3] = False
    out, end = run(cell, x, torch.where(mask, times, math.nan), before, mask, starts)
    for i in range(4):
        row, state, document = slice(i, i + 1), rows(before, slice(i, i + 1)), []
        for j in [*mask[i].nonzero()[:, 0].tolist(), None]:  # one token after the other, each document fresh
            if document and (j is None or starts[i, j]):
                exact, state = run(cell, x[row, document], times[row, document], state)
                assert error(out[row, document], exact) < 1e-10
                document = []
            if j is not None:
                state = None if starts[i, j] else state
                document.append(j)
        assert state_error(rows(end, row), state) < 1e-10


def test_a_start_across_calls_cuts_off_the_state(cell):
    x, times = inputs(2, 10)
    _, state = run(cell, *inputs(2, 6, seed=40))
    starts = torch.zeros(2, 10, dtype=torch.bool)
    starts[:, 0] = True
    fresh, after = run(cell, x, times), run(cell, x, times, state, starts=starts)
    assert error(after[0], fresh[0]) < 1e-12 and state_error(after[1], fresh[1]) < 1e-12


# ---- causality


@pytest.mark.parametrize("token", [0, 7, 15, 16, 29])
def test_a_token_changes_what_comes_after_and_nothing_before(cell, token):
    x, times = inputs(2, 30)
    times = 0.5 * torch.arange(30).expand(2, 30).double()
    other, other_times = x.clone(), times.clone()
    other[:, token] += normal(2, HIDDEN, seed=9)
    out, _ = run(cell, x, times)
    changed = (run(cell, other, times)[0] - out).abs().amax((0, 2))
    assert changed[:token].sum() == 0 and changed[token:].min() > 0
    other_times[:, token] += 0.25
    if token:  # the first event's gap does not count
        changed = (run(cell, x, other_times)[0] - out).abs().amax((0, 2))
        assert changed[:token].sum() == 0 and changed[token:].max() > 0


# ---- initial h, gradients, types


def test_a_bare_h_is_the_state_one_time_scale_before_the_first_event(kind):
    cell, (x, times), h = (
        mixer(kind, time_scale=4.0),
        inputs(2, 10),
        normal(2, HIDDEN, seed=5).requires_grad_(),
    )
    zero = cell.initial_state(2, x.dtype, x.device)
    out, end = run(cell, x, times, h)
    exact, state = run(cell, x, times, zero._replace(h=h, time=times[:, 0] - 4.0))
    assert error(out, exact) < 1e-12 and state_error(end, state) < 1e-12
    assert torch.autograd.grad(out.sum(), h)[0].abs().min() > 0
    out, end = run(cell, x, None, h)  # without times: at 0, 1, 2, …, the state one unit before
    before = torch.full((2,), -1.0).double()
    exact, state = run(cell, x, torch.arange(10).expand(2, 10), zero._replace(h=h, time=before))
    assert error(out, exact) < 1e-12 and state_error(end, state) < 1e-12


def test_every_parameter_learns(cell):
    x, times = inputs(3, 20)
    cell(x, times)[0].square().sum().backward()
    for name, parameter in cell.named_parameters():
        assert parameter.grad.isfinite().all() and parameter.grad.abs().max() > 1e-12, name


def test_dropout_only_in_training(kind):
    cell, (x, times) = mixer(kind, dropout=0.5), inputs(2, 10)
    assert not torch.equal(cell(x, times)[0], cell(x, times)[0])
    cell.eval()
    assert error(cell(x, times)[0], mixer(kind)(x, times)[0]) == 0


def test_state_stays_float32_under_autocast(kind):
    cell, x = mixer(kind).float(), normal(2, 30, HIDDEN, dtype=torch.float32)
    times = inputs(2, 30)[1]
    exact, _ = run(cell, x, times)
    for given in (x, x.bfloat16()):
        with torch.autocast("cpu", torch.bfloat16):
            out, state = run(cell, given, times)
        assert {p.dtype for p in state[:3] if p is not None} == {torch.float32}
        assert state.time.dtype == torch.float64
        assert error(out.float(), exact) < 0.1


# ---- bad input


def with_time(value):
    times = torch.arange(6, dtype=torch.float64).repeat(3, 1)
    times[2, 4] = value
    return times


@pytest.mark.parametrize("value", [1.0, math.nan, math.inf, -math.inf], ids=str)
def test_bad_times_name_row_and_position(cell, value):
    with pytest.raises(LiquidError, match="row 2, position 4"):
        cell(normal(3, 6, HIDDEN), with_time(value))


def test_times_before_the_state_are_refused(cell):
    x, times = inputs(2, 6)
    _, state = run(cell, x, times)
    late = times + (times[:, -1:] - times[:, :1])
    late[1] -= 1.0
    with pytest.raises(LiquidError, match="row 1, position 0"):
        cell(x, late, state)


WRONG = {
    "width": lambda x, state: {"x": x[..., :-1]},
    "no token": lambda x, state: {"x": x[:, :0]},
    "times of another length": lambda x, state: {"timestamps": torch.arange(7.0).expand(3, 7)},
    "times of other rows": lambda x, state: {"timestamps": torch.arange(6.0).expand(2, 6)},
    "one time per step": lambda x, state: {"timestamps": torch.arange(6.0)},
    "h of other rows": lambda x, state: {"h": torch.zeros(2, HIDDEN)},
    "h of another width": lambda x, state: {"h": torch.zeros(3, HIDDEN + 1)},
    "h of three dimensions": lambda x, state: {"h": torch.zeros(1, 3, HIDDEN)},
    "state of other rows": lambda x, state: {"h": rows(state, slice(0, 2))},
    "state of another layer": lambda x, state: {"h": state._replace(conv=state.conv[:, 1:])},
    "mask of another length": lambda x, state: {"attention_mask": torch.ones(3, 7)},
    "mask of other rows": lambda x, state: {"attention_mask": torch.ones(1, 6)},
    "starts of another length": lambda x, state: {"starts": torch.zeros(3, 7, dtype=torch.bool)},
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_shapes_are_refused(cell, wrong, as_users_run):
    x = normal(3, 6, HIDDEN)
    state = cell(x, return_state=True)[2]
    with pytest.raises(LiquidError):
        cell(**({"x": x} | WRONG[wrong](x, state)))
