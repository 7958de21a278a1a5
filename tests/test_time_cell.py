"""ImprovedLiquidTimeCell: an interval by closed form and by solvers, all intervals at once, both contexts."""

import pytest
import torch
from helpers import error, gradients, normal, randomise, uniform
from hypothesis import given
from hypothesis import strategies as st

from liquidlm.errors import LiquidError
from liquidlm.nn.cells import ImprovedLiquidTimeCell

HIDDEN, ROWS = 6, 5
PRECISE = {"rtol": 1e-9, "atol": 1e-11}


def time_cell(context="input", seed=0, dropout=0.0):
    torch.manual_seed(seed)
    return randomise(ImprovedLiquidTimeCell(HIDDEN, dropout, context), seed, 0.5).double()


def intervals(*batch, longest=100.0, seed=0):
    """(…, 3) times that do not decrease; the middle one does not matter."""
    first, length = normal(*batch, seed=seed), longest * uniform(*batch, seed=seed + 1)
    return torch.stack([first, first + 0.3 * length, first + length], -1)


# ---- one interval


@pytest.mark.parametrize("batch", [(ROWS,), (HIDDEN,), (2, 3)])
@pytest.mark.parametrize("per_row", [False, True])
def test_closed_form_equals_dopri5(batch, per_row):
    cell, e, h = time_cell(), normal(*batch, HIDDEN), normal(*batch, HIDDEN, seed=1)
    t_span = intervals(*batch) if per_row else intervals()
    with torch.no_grad():
        exact = cell(e, h, t_span, solver="dopri5", **PRECISE)
        assert error(cell(e, h, t_span), exact) < 1e-7
    assert (exact - h).abs().max() > 0.1


def test_rows_of_one_call_are_rows_alone():
    # As many rows as units: a time per row mistaken for one per unit would go unnoticed by the shapes.
    cell, e, h = time_cell(), normal(HIDDEN, HIDDEN), normal(HIDDEN, HIDDEN, seed=1)
    t_span = intervals(HIDDEN)
    alone = torch.cat([cell(e[i, None], h[i, None], t_span[i]) for i in range(HIDDEN)])
    assert error(cell(e, h, t_span), alone) < 1e-13


@given(first=st.floats(0, 1e5), second=st.floats(0, 1e5), seed=st.integers(0, 100))
def test_two_intervals_equal_one(first, second, seed):
    cell, e, h = time_cell(seed=seed), normal(ROWS, HIDDEN, seed=seed), normal(ROWS, HIDDEN, seed=seed + 1)
    times = torch.tensor([0.0, first, first + second], dtype=torch.float64)
    assert error(cell(e, cell(e, h, times[:2]), times[1:]), cell(e, h, times)) < 1e-11


def test_gate_and_warp_only_rescale_time():
    cell, e, h = time_cell(), normal(ROWS, HIDDEN), normal(ROWS, HIDDEN, seed=1)
    pace = cell.own_time(e, torch.ones(ROWS).double())
    assert (pace > 0).all() and pace.std() > 0.1
    rate, drive = cell.neuron.conductances(e)
    for elapsed in (0.0, 0.7, 30.0):
        end = (drive / rate) + (h - drive / rate) * torch.exp(-rate * pace * elapsed)
        assert error(cell(e, h, torch.tensor([1.0, 1.0 + elapsed]).double()), end) < 1e-7
    with torch.no_grad():
        cell.stability.fill_(-1e3)  # a closed gate holds the state for any time
    assert torch.equal(cell(e, h, torch.tensor([0.0, 1e6]).double()), h)


@pytest.mark.parametrize("elapsed", [0.0, 1e9, 1e30])
def test_no_interval_overflows(elapsed):
    cell, e, h = time_cell().float(), normal(ROWS, HIDDEN).float(), normal(ROWS, HIDDEN, seed=1).float()
    after = cell(e.requires_grad_(), h.requires_grad_(), torch.tensor([0.0, elapsed]))
    leaves = (e, h, *cell.parameters())
    after.square().sum().backward()
    assert after.isfinite().all()
    assert all(x.grad is not None and x.grad.isfinite().all() for x in leaves)
    if elapsed == 0:
        assert torch.equal(after, h)


@pytest.mark.parametrize(
    "t_span",
    [[0.0], [1.0, 0.0], [0.0, 2.0, 1.0], [0.0, float("nan")], [0.0, float("inf")]],
    ids=["one time", "back", "back on the way", "nan", "infinite"],
)
@pytest.mark.parametrize("solver", ["closed_form", "dopri5"])
def test_bad_times_are_refused(t_span, solver):
    with pytest.raises(LiquidError, match="t_span"):
        time_cell()(normal(ROWS, HIDDEN), normal(ROWS, HIDDEN), torch.tensor(t_span).double(), solver)


@pytest.mark.parametrize("rows", [3, 4], ids=["as many as tokens", "other"])
def test_times_of_other_rows_are_refused(rows):
    # (B, n) does not fit states of (B, T, H): it must not be stretched over the tokens.
    e = normal(rows, 3, HIDDEN)
    with pytest.raises(LiquidError, match="t_span"):
        time_cell()(e, e, intervals(rows))


# ---- all intervals of a sequence


def test_scan_equals_interval_by_interval_and_nothing_passes_a_start():
    cell = time_cell()
    e, h0 = normal(3, 30, HIDDEN).requires_grad_(), normal(3, HIDDEN, seed=1).requires_grad_()
    elapsed = (-5 * uniform(3, 30, seed=2).log()).requires_grad_()
    start = uniform(3, 30, seed=3) < 0.15
    start[0] = False
    start[1, 12] = start[2, 0] = True
    states, h = [], h0
    for i in range(30):
        h = h.masked_fill(start[:, i, None], 0.0)
        h = cell(e[:, i], h, torch.stack([torch.zeros_like(elapsed[:, i]), elapsed[:, i]], -1))
        states.append(h)
    scanned, stepped = cell.scan(e, elapsed, h0, start), torch.stack(states, 1)
    assert error(scanned, stepped) < 1e-12
    leaves = (e, elapsed, h0, *cell.parameters())
    for a, b in zip(gradients((scanned,), leaves), gradients((stepped,), leaves), strict=True):
        assert error(a, b) < 1e-10 and b.abs().max() > 0
    before, first = torch.autograd.grad(cell.scan(e, elapsed, h0, start)[1, 12:].sum(), (e, h0))
    assert before[1, :12].abs().max() == 0 and before[1, 12:].abs().min() > 0 and first.abs().max() == 0


def test_initial_time_constants_are_log_uniform_over_five_decades():
    cell = ImprovedLiquidTimeCell(256, 0.0)
    e = normal(2000, 256, dtype=torch.float32)
    with torch.no_grad():
        rate = cell.neuron.conductances(e)[0] * cell.own_time(e, torch.ones(2000))
    logarithm = rate.mean(0).log10().neg()
    each = rate.log10().neg().flatten()[::7]
    for decile in range(1, 10):
        assert logarithm.quantile(decile / 10).item() == pytest.approx(0.5 * decile, abs=0.15)
        assert each.quantile(decile / 10).item() == pytest.approx(0.5 * decile, abs=0.15)


# ---- a context from the state: fully nonlinear


def test_nonlinear_cell_is_integrated_and_has_no_closed_form():
    cell, e, h = time_cell("state"), normal(ROWS, HIDDEN), normal(ROWS, HIDDEN, seed=1)
    t_span = intervals(ROWS, longest=5.0)
    with pytest.raises(LiquidError, match="closed form"):
        cell(e, h, t_span)
    solved = cell(e, h, t_span, solver="dopri5", **PRECISE)
    # Against 2000 steps of the midpoint rule on the equation as it stands: dh/dt = σ(g)·w(e)·neuron.
    elapsed = t_span[:, -1] - t_span[:, 0]
    pace = cell.own_time(e, elapsed) / 2000
    x = h
    with torch.no_grad():
        for _ in range(2000):
            x = x + pace * cell.neuron(0.0, x + 0.5 * pace * cell.neuron(0.0, x, e), e)
    assert error(solved, x) < 1e-5 and (solved - h).abs().max() > 0.1
    solved.square().sum().backward()
    for name, parameter in cell.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_exponential_euler_is_of_first_order():
    """Twice the steps, half the error, against dopri5."""
    cell, e, h = time_cell("state"), normal(ROWS, HIDDEN), normal(ROWS, HIDDEN, seed=1)
    t_span = intervals(ROWS, longest=3.0)
    with torch.no_grad():
        exact = cell(e, h, t_span, solver="dopri5", **PRECISE)
        errors = [
            error(cell(e, h, t_span, solver="exponential_euler", steps=steps), exact)
            for steps in (64, 128, 256)
        ]
    assert errors[0] > 1.8 * errors[1] > 3.2 * errors[2] > 0 and errors[2] < 0.02


@given(elapsed=st.floats(0, 1e9), steps=st.integers(1, 4), seed=st.integers(0, 100))
def test_exponential_euler_is_the_closed_form_where_the_state_sets_no_rate(elapsed, steps, seed):
    cell, e, h = time_cell(seed=seed), normal(ROWS, HIDDEN, seed=seed), normal(ROWS, HIDDEN, seed=seed + 1)
    t_span = torch.tensor([0.0, elapsed], dtype=torch.float64)
    assert error(cell(e, h, t_span, solver="exponential_euler", steps=steps), cell(e, h, t_span)) < 1e-11


@given(elapsed=st.sampled_from([0.0, 1e-3, 1.0, 1e9, 1e30]), seed=st.integers(0, 100))
def test_exponential_euler_stays_between_the_state_zero_and_the_reversal_potential(elapsed, seed):
    cell, e, h = (
        time_cell("state", seed),
        normal(ROWS, HIDDEN, seed=seed),
        normal(ROWS, HIDDEN, seed=seed + 1),
    )
    rate, drive = cell.neuron.conductances(e, h)
    potential = drive / (rate - torch.exp(-cell.neuron.neuron.log_tau))
    corners = torch.stack([h, potential, torch.zeros_like(h)])
    after = cell(e, h, torch.tensor([0.0, elapsed]).double(), solver="exponential_euler")
    assert (after >= corners.amin(0) - 1e-12).all() and (after <= corners.amax(0) + 1e-12).all()
    assert elapsed > 0 or torch.equal(after, h)


@pytest.mark.parametrize("scale", [1.0, 10.0])
def test_a_nonlinear_state_stays_bounded_over_many_events(scale):
    """|h| never exceeds the largest |A(e, h)|, whose bound does not depend on h."""
    cell, e = time_cell("state"), normal(2, 2000, HIDDEN)
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter *= scale
        elapsed = -10 * uniform(2, 2000, seed=2).log()
        h = cell.scan(e, elapsed, torch.zeros(2, HIDDEN).double())
        encoder, synapse = cell.neuron.encoder, cell.neuron.neuron.synapse
        context = encoder.bias.abs() + e.abs() @ encoder.weight[:, :HIDDEN].abs().mT
        context = context + encoder.weight[:, HIDDEN:].abs().sum(1)
        seen = torch.cat([e.abs(), context], -1)
        bound = (seen @ synapse.weight[HIDDEN:].abs().mT + synapse.bias[HIDDEN:].abs()).amax(1)
    assert (h.abs().amax(1) <= bound).all() and h.abs().max() > 0.1


@pytest.mark.parametrize("steps", [0, -1])
def test_steps_are_counted_from_one(steps):
    cell, e = time_cell("state"), normal(ROWS, HIDDEN)
    with pytest.raises(LiquidError, match="steps"):
        cell(e, e, intervals(ROWS), solver="exponential_euler", steps=steps)


def test_rates_at_a_state_need_the_state():
    with pytest.raises(LiquidError, match="state h"):
        time_cell("state").neuron.conductances(normal(ROWS, HIDDEN))


@pytest.mark.parametrize("solver", ["exponential_euler", "rk4"])
def test_nonlinear_scan_is_interval_by_interval(solver):
    cell, e, h0 = time_cell("state"), normal(2, 5, HIDDEN).requires_grad_(), normal(2, HIDDEN, seed=1)
    elapsed = 2 * uniform(2, 5, seed=2)
    start = torch.zeros(2, 5, dtype=torch.bool)
    start[0, 3] = True
    scanned = cell.scan(e, elapsed, h0, start, solver)
    h = h0
    for i in range(5):
        h = h.masked_fill(start[:, i, None], 0.0)
        h = cell(e[:, i], h, torch.stack([torch.zeros(2).double(), elapsed[:, i]], -1), solver)
        assert error(scanned[:, i], h) < 1e-13
    grad = torch.autograd.grad(scanned[:, 3:].sum(), e)[0]
    assert grad[0, :3].abs().max() == 0 and grad[1].abs().min() > 0
