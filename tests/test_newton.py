"""The nonlinear neuron in parallel over time, by Newton iterations, against the loop that defines it."""

import pytest
import torch
from helpers import error, gradients, normal, randomise, uniform
from native import assert_same, with_gradients
from test_native_nonlinear import inputs

from liquidlm.errors import LiquidError
from liquidlm.nn.cells import ImprovedLiquidTimeCell
from liquidlm.ops import nonlinear_relax_newton, nonlinear_relax_reference

SHAPES = [(1, 1, 1, 1), (1, 2, 3, 5), (2, 7, 5, 3), (3, 65, 16, 8)]


@pytest.mark.parametrize("starts", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_outputs_and_all_gradients(shape, starts):
    given = inputs(*shape, starts=starts)
    truth = with_gradients(nonlinear_relax_reference, given, torch.float64)
    assert_same(with_gradients(nonlinear_relax_newton, given, torch.float64), truth, 1e-11)
    assert_same(with_gradients(nonlinear_relax_newton, given), truth, 2e-5)


def test_inputs_in_bfloat16_under_autocast():
    given = inputs(2, 9, 6, 4, torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        found = nonlinear_relax_newton(*given)
    torch.testing.assert_close(found, nonlinear_relax_reference(*given), rtol=1e-4, atol=1e-4)


def test_as_many_iterations_as_events_are_enough_where_states_push_each_other_apart():
    given = inputs(1, 30, 12, 12, starts=False)
    given[2], given[3] = 6 * given[2], 6 * given[3]
    truth = with_gradients(nonlinear_relax_reference, given, torch.float64)
    found = with_gradients(lambda *x: nonlinear_relax_newton(*x, iterations=32), given, torch.float64)
    assert_same(found, truth, 1e-9)


def test_no_convergence_is_an_error():
    given = inputs(1, 30, 12, 12)
    with pytest.raises(LiquidError, match="did not converge"):
        nonlinear_relax_newton(*given, iterations=2)


def test_a_larger_tolerance_needs_fewer_iterations():
    given = inputs(1, 30, 12, 12)
    close = nonlinear_relax_newton(*given, tolerance=0.2, iterations=4)
    assert error(close, nonlinear_relax_reference(*given)) < 0.5


def test_scan_of_a_cell():
    torch.manual_seed(0)
    cell = randomise(ImprovedLiquidTimeCell(6, 0.0, "state"), 0, 0.5).double()
    e, h0 = normal(2, 40, 6).requires_grad_(), normal(2, 6, seed=1).requires_grad_()
    elapsed, start = 2 * uniform(2, 40, seed=2), uniform(2, 40, seed=3) < 0.1
    leaves = (e, h0, *cell.parameters())
    loop, newton = (cell.scan(e, elapsed, h0, start, solver) for solver in ("exponential_euler", "newton"))
    assert error(newton, loop) < 1e-11
    for a, b in zip(gradients((newton,), leaves), gradients((loop,), leaves), strict=True):
        assert error(a, b) < 1e-9
    with torch.no_grad():
        assert error(cell.scan(e, elapsed, h0, start, "newton"), loop) < 1e-11
