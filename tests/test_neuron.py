"""The LTC neurons: closed form against solvers, composition of intervals, bounds, initial time constants."""

import pytest
import torch
from helpers import error, gradients, normal, randomise, uniform
from hypothesis import given
from hypothesis import strategies as st
from torchdiffeq import odeint

from liquidlm.nn.cells.neuron import AdaptiveLiquidNeuron, LiquidNeuron

HIDDEN, ROWS = 6, 5


def neuron(seed=0, input_size=None):
    torch.manual_seed(seed)
    return randomise(LiquidNeuron(HIDDEN, input_size), seed, 0.5).double()


def adaptive(context="input", seed=0, dropout=0.0):
    torch.manual_seed(seed)
    return randomise(AdaptiveLiquidNeuron(HIDDEN, dropout, context), seed, 0.5).double()


def solved(rhs, h, elapsed):
    """h after `elapsed`, one per row, by dopri5: every row's interval is mapped to 0…1."""
    unit = torch.tensor([0.0, 1.0], dtype=torch.float64)
    return odeint(lambda t, x: elapsed[:, None] * rhs(t, x), h, unit, method="dopri5", rtol=1e-9, atol=1e-11)[
        -1
    ]


@pytest.mark.parametrize("seed", range(3))
def test_closed_form_equals_dopri5(seed):
    cell, h, e = neuron(seed), normal(ROWS, HIDDEN, seed=seed), normal(ROWS, HIDDEN, seed=seed + 10)
    elapsed = 100 * uniform(ROWS, seed=seed)
    elapsed[0] = 0.0
    with torch.no_grad():
        exact = solved(lambda t, x: cell(t, x, e), h, elapsed)
        assert error(cell.step(h, e, elapsed), exact) < 1e-7
    assert (exact[1:] - h[1:]).abs().max() > 0.1  # it has moved


@given(first=st.floats(0, 1e6), second=st.floats(0, 1e6), seed=st.integers(0, 100))
def test_two_intervals_equal_one(first, second, seed):
    cell, h, e = neuron(seed, input_size=3), normal(ROWS, HIDDEN, seed=seed), normal(ROWS, 3, seed=seed + 1)
    first, second = (torch.full((ROWS,), x, dtype=torch.float64) for x in (first, second))
    twice = cell.step(cell.step(h, e, first), e, second)
    assert error(twice, cell.step(h, e, first + second)) < 1e-12


DTYPES = st.sampled_from([torch.float32, torch.float64])


@given(elapsed=st.floats(0, 1e9), seed=st.integers(0, 100), dtype=DTYPES)
def test_state_stays_between_where_it_was_zero_and_the_reversal_potential(elapsed, seed, dtype):
    cell, h, e = neuron(seed), normal(ROWS, HIDDEN, seed=seed), normal(ROWS, HIDDEN, seed=seed + 1)
    rate, drive = cell.conductances(e)
    potential = drive / (rate - torch.exp(-cell.log_tau))  # A = fA / f
    corners = torch.stack([h, potential, torch.zeros_like(h)])
    after = cell.to(dtype).step(h.to(dtype), e.to(dtype), torch.full((ROWS,), elapsed, dtype=dtype))
    slack = corners.abs().max() * (1e-5 if dtype == torch.float32 else 1e-12)
    assert (after >= corners.amin(0) - slack).all() and (after <= corners.amax(0) + slack).all()


def test_an_endless_interval_ends_at_equilibrium():
    cell, h, e = neuron(), normal(ROWS, HIDDEN), normal(ROWS, HIDDEN, seed=1)
    after = cell.step(h, e, torch.full((ROWS,), 1e12, dtype=torch.float64))
    assert error(cell(0.0, after, e), torch.zeros_like(after)) < 1e-12


def test_scan_equals_step_by_step_with_all_gradients():
    cell, e, h0 = neuron(), normal(2, 40, HIDDEN).requires_grad_(), normal(2, HIDDEN, seed=1).requires_grad_()
    elapsed = (-10 * uniform(2, 40, seed=2).log()).requires_grad_()
    states, h = [], h0
    for i in range(40):
        h = cell.step(h, e[:, i], elapsed[:, i])
        states.append(h)
    leaves = (e, elapsed, h0, *cell.parameters())
    scanned, stepped = cell.scan(e, elapsed, h0), torch.stack(states, 1)
    assert error(scanned, stepped) < 1e-12
    for a, b in zip(gradients((scanned,), leaves), gradients((stepped,), leaves), strict=True):
        assert error(a, b) < 1e-10 and b.abs().max() > 0


def test_initial_time_constants_are_log_uniform_over_five_decades():
    cell = LiquidNeuron(256)
    rate, _ = cell.conductances(normal(2000, 256, dtype=torch.float32))
    logarithm = (1 / rate).log10().flatten()
    for decile in range(1, 10):
        assert logarithm[::7].quantile(decile / 10).item() == pytest.approx(0.5 * decile, abs=0.15)
    assert logarithm.min() > -1 and logarithm.max() < 6


def test_rates_and_states_stay_float32_under_autocast():
    cell, e, h = LiquidNeuron(HIDDEN), normal(2, 9, HIDDEN).float(), torch.zeros(2, HIDDEN)
    with torch.autocast("cpu", torch.bfloat16):
        rate, drive = cell.conductances(e)
        states = cell.scan(e, torch.ones(2, 9), h)
    assert {rate.dtype, drive.dtype, states.dtype} == {torch.float32}
    assert error(states, cell.scan(e, torch.ones(2, 9), h)) < 0.03


# ---- AdaptiveLiquidNeuron


def test_context_from_the_input_modulates_and_stays_linear_in_the_state():
    cell, e = adaptive(), normal(ROWS, HIDDEN)
    h, other = normal(ROWS, HIDDEN, seed=1), normal(ROWS, HIDDEN, seed=2)
    rate, drive = cell.conductances(e)
    assert error(cell(0.0, h, e), drive - rate * h) < 1e-13
    assert error(cell(0.0, h, e) - cell(0.0, other, e), -rate * (h - other)) < 1e-12
    with torch.no_grad():
        cell.encoder.bias += 1.0
    assert (cell.conductances(e)[0] / rate - 1).abs().max() > 1e-2  # the context reaches the rates
    assert (cell.conductances(e)[1] - drive).abs().max() > 1e-2


def test_context_from_the_state_makes_it_nonlinear():
    cell, e = adaptive("state"), normal(ROWS, HIDDEN)
    h, other = normal(ROWS, HIDDEN, seed=1), normal(ROWS, HIDDEN, seed=2)
    middle = (cell(0.0, h, e) + cell(0.0, other, e)) / 2
    assert (cell(0.0, (h + other) / 2, e) - middle).abs().max() > 1e-2


@pytest.mark.parametrize("context", ["input", "state"])
def test_dynamics_draw_dropout_once_per_interval(context):
    cell, e, h = adaptive(context, dropout=0.5), normal(ROWS, HIDDEN), normal(ROWS, HIDDEN, seed=1)
    rhs = cell.dynamics(e)
    assert torch.equal(rhs(0.0, h), rhs(0.5, h))
    assert not torch.equal(cell(0.0, h, e), cell(0.0, h, e))
    cell.eval()
    assert torch.equal(cell(0.0, h, e), cell.dynamics(e)(0.0, h))
