"""The embedding's ODE: the equation, its bound for all t, and the order of its solver."""

import math

import pytest
import torch
import torch.nn.functional as F
from helpers import normal, randomise
from torch import nn
from torchdiffeq import odeint

from liquidlm.errors import LiquidError
from liquidlm.nn.ode import ODEFunc, integrate

DECAY, ADAPTIVE, H = 0.1, 0.01, 12


def make(seed: int = 0, decay: float = DECAY, adaptive: float = ADAPTIVE) -> ODEFunc:
    """An ODEFunc in float64 with random parameters."""
    return randomise(ODEFunc(nn.LayerNorm(H), decay, adaptive).double(), seed, scale=1)


def test_the_equation():
    func = make()
    e = torch.randn(5, H, dtype=torch.float64)
    n = (e - e.mean(-1, keepdim=True)) / (e.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
    u = func.layer_norm.weight * n + func.layer_norm.bias
    alpha = torch.sigmoid(func.mix_logit)
    drive = (1 - alpha) * torch.tanh(u) + alpha * F.gelu(u)
    pull = DECAY * (1 + ADAPTIVE * e.norm(dim=-1, keepdim=True) / math.sqrt(H)) * e
    torch.testing.assert_close(func(0.0, e), drive - pull)
    assert func(0.0, torch.zeros(2, H, dtype=torch.float64)).isfinite().all()


@pytest.mark.parametrize("adaptive", [0.01, 0.0, 1.0])
def test_trajectories_stay_within_the_bound_of_the_docstring(adaptive):
    func = make(1, adaptive=adaptive)
    gamma, beta = func.layer_norm.weight, func.layer_norm.bias
    m = gamma.abs().max() * math.sqrt(H) + beta.norm()
    radius = 2 * m / (DECAY * (1 + torch.sqrt(1 + 4 * adaptive * m / (DECAY * math.sqrt(H)))))
    direction = F.normalize(torch.randn(8, H, dtype=torch.float64), dim=-1)
    start = direction * torch.tensor([1e3, 1e3, 1e3, 1e2, 1e2, 1.0, 1e-3, 0.0], dtype=torch.float64)[:, None]
    with torch.no_grad():
        e, t = start, 0.0
        for until in (0.1, 1.0, 10.0, 100.0, 1000.0):
            span = torch.tensor([t, until], dtype=torch.float64)
            e, t = integrate(func, e, span, "dopri5", rtol=1e-6, atol=1e-7), until
            grown = m / DECAY + (start.norm(dim=-1) - m / DECAY) * math.exp(-DECAY * t)
            assert (e.norm(dim=-1) <= grown + 1e-3).all()
            assert (e.norm(dim=-1) <= start.norm(dim=-1).clamp_min(radius) + 1e-3).all()
        assert (e.norm(dim=-1) <= radius + 1e-4).all()  # every start has come down


def test_rk4_stays_bounded_too():
    start = 1e3 * F.normalize(torch.randn(8, H, dtype=torch.float64), dim=-1)
    with torch.no_grad():
        fixed = integrate(make(1), start, torch.linspace(0, 1000, 1001))
        exact = integrate(make(1), start, torch.tensor([0, 1000]), "dopri5")
    torch.testing.assert_close(fixed, exact, atol=1e-3, rtol=0)  # both have come to rest


def test_rk4_takes_the_steps_of_t_span_and_converges_with_order_four():
    func = make(2, decay=0.5)
    start = torch.randn(6, H, dtype=torch.float64)
    steps = torch.tensor([8, 16, 32, 64])

    def end(n: int) -> torch.Tensor:
        with torch.no_grad():
            return integrate(func, start, torch.linspace(0, 4, n + 1, dtype=torch.float64))

    truth = end(1024)
    x = (4 / steps).log2()
    y = torch.stack([(end(int(n)) - truth).norm() for n in steps]).log2()
    slope = ((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()
    assert slope == pytest.approx(4, abs=0.3)


def test_dopri5_agrees_with_rk4():
    func = make(3)
    start = torch.randn(6, H, dtype=torch.float64)
    fine = integrate(func, start, torch.linspace(0, 2, 201, dtype=torch.float64))
    adaptive = integrate(func, start, torch.tensor([0, 2]), "dopri5", rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(adaptive, fine, atol=1e-8, rtol=0)
    coarse = integrate(func.float(), start.float(), torch.linspace(0, 2, 3), "dopri5")
    torch.testing.assert_close(coarse, fine.float(), atol=1e-4, rtol=0)


def test_solution_of_a_known_equation_with_time():
    e = integrate(lambda t, e: 2 * t * e, torch.ones(3, dtype=torch.float64), torch.linspace(1, 2, 101))
    torch.testing.assert_close(e, torch.full_like(e, math.exp(3)), atol=1e-6, rtol=0)


def test_gradients_are_those_of_the_solution():
    func = make(4)
    start = torch.randn(2, H, dtype=torch.float64, requires_grad=True)
    inputs = (start, *func.parameters())
    times = torch.linspace(0, 1, 3, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda start, *_: integrate(func, start, times), inputs)
    integrate(func, start, times).square().sum().backward()
    assert all(p.grad.abs().max() > 0 for p in inputs)


def test_precision_is_kept_under_autocast_and_for_low_precision_weights():
    func = make(5).float()
    start, times = torch.randn(4, H), torch.linspace(0, 1, 5)
    expected = integrate(func, start, times)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(integrate(func, start, times), expected)
    func = func.bfloat16()
    got = integrate(func, start.bfloat16(), times)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, integrate(func.float(), start.bfloat16().float(), times))


def test_layer_norm_without_weights():
    func = ODEFunc(nn.LayerNorm(H, elementwise_affine=False))
    assert func(0.0, torch.randn(3, H)).shape == (3, H)


@pytest.mark.parametrize(
    "t_span",
    [[0.0], [], [[0.0, 1.0]], [0.0, 0.0], [1.0, 0.0], [0.0, 2.0, 1.0], [0.0, math.nan], [0.0, math.inf]],
)
def test_bad_t_span(t_span):
    with pytest.raises(LiquidError, match="t_span"):
        integrate(make(), torch.zeros(1, H, dtype=torch.float64), torch.tensor(t_span))


def test_other_errors():
    with pytest.raises(LiquidError, match="rk5"):
        integrate(make(), torch.zeros(1, H, dtype=torch.float64), torch.tensor([0, 1]), "rk5")
    for factors in ((0.0, 0.01), (-1.0, 0.01), (0.1, -0.01), (math.nan, 0.01)):
        with pytest.raises(LiquidError, match="decay_factor"):
            ODEFunc(nn.LayerNorm(H), *factors)


@pytest.mark.parametrize("times", [torch.float32, torch.float64])
@pytest.mark.parametrize("values", [torch.float32, torch.float64])
def test_rk4_is_torchdiffeq_s_to_the_bit(values: torch.dtype, times: torch.dtype) -> None:
    start, span = normal(20, H, dtype=values), torch.linspace(0, 1, 5, dtype=times)

    def func(t: torch.Tensor, e: torch.Tensor) -> torch.Tensor:
        return torch.tanh(e) * (1 + t) - 0.1 * e

    grid = {"grid_constructor": lambda *_: span}
    expected = odeint(func, start, span[[0, -1]], method="rk4", options=grid)
    assert torch.equal(integrate(func, start, span), expected[-1])
