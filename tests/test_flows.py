"""The flow: exact inverses, exact determinants, and a reduction that keeps the information."""

import pytest
import torch
from helpers import randomise
from torch import nn

from liquidlm.errors import LiquidError
from liquidlm.nn.flows import (
    CouplingNets,
    HouseholderMixing,
    OptimizedFlowDimensionalityReduction,
    SharedAffineCouplingLayer,
    discarded_fraction,
    flow_loss,
)

PRECISIONS = [(torch.float64, 1e-10), (torch.float32, 1e-4)]


def stack(dim: int, shared: bool, dtype: torch.dtype) -> nn.ModuleList:
    """Three couplings that alternate halves."""
    nets = CouplingNets(dim, 16) if shared else None
    layers = [SharedAffineCouplingLayer(dim, 16, nets, swap=i % 2 == 1) for i in range(3)]
    return randomise(nn.ModuleList(layers).to(dtype))


def slogdet(function, x: torch.Tensor) -> torch.Tensor:
    return torch.linalg.slogdet(torch.autograd.functional.jacobian(function, x)).logabsdet


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("dim", [2, 3, 8, 9])
@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_coupling_inverts(dim, shared, dtype, tolerance):
    torch.manual_seed(dim)
    x = torch.randn(5, 7, dim, dtype=dtype)
    y = x
    for layer in (layers := stack(dim, shared, dtype)):
        y, log_det = layer(y)
        assert log_det.shape == (5, 7)
    assert (y - x).abs().mean() > 0.3  # far from the identity
    for layer in reversed(layers):
        y = layer.inverse(y)
    torch.testing.assert_close(y, x, atol=tolerance, rtol=0)


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("dim", [2, 5, 6])
def test_coupling_determinant(dim, swap):
    layer = randomise(SharedAffineCouplingLayer(dim, 16, swap=swap).double())
    x = torch.randn(dim, dtype=torch.float64)
    torch.testing.assert_close(slogdet(lambda x: layer(x)[0], x), layer(x)[1], atol=1e-8, rtol=0)


@pytest.mark.parametrize("dim", [2, 3, 6, 7])
def test_two_layers_transform_every_coordinate(dim):
    first, second, _ = stack(dim, True, torch.float64)
    x = torch.randn(dim, dtype=torch.float64)
    y, _ = first(x)
    kept = dim // 2
    assert torch.equal(y[:kept], x[:kept]) and (y[kept:] != x[kept:]).all()
    z, _ = second(y)
    assert torch.equal(z[-kept:], y[-kept:]) and (z[:-kept] != y[:-kept]).all()


def test_stretch_is_bounded():
    layer = randomise(SharedAffineCouplingLayer(6, 16).double())
    bound = layer.stretch_bound.abs().sum()
    _, log_det = layer(1e6 * torch.randn(100, 6, dtype=torch.float64))
    assert log_det.isfinite().all() and log_det.abs().max() <= bound


def test_shared_nets_are_one_set_of_parameters():
    first = SharedAffineCouplingLayer(7, 16)
    second = SharedAffineCouplingLayer(7, 16, first.shared_nets, swap=True)
    layers = randomise(nn.ModuleList([first, second]))
    nets = list(first.shared_nets.parameters())
    assert all(a is b for a, b in zip(nets, second.shared_nets.parameters(), strict=True))
    own = 2 * (16 + 16 + 4)  # modulation and bound of each layer
    assert sum(p.numel() for p in layers.parameters()) == sum(p.numel() for p in nets) + own

    x = torch.randn(10, 7)
    grads = [torch.autograd.grad(layer(x)[0].square().sum(), nets) for layer in layers]
    sum(layer(x)[0].square().sum() for layer in layers).backward()
    for p, a, b in zip(nets, *grads, strict=True):
        assert a.abs().max() > 0 and b.abs().max() > 0
        torch.testing.assert_close(p.grad, a + b)


def test_layers_that_share_nets_start_different():
    first = SharedAffineCouplingLayer(6, 16)
    second = SharedAffineCouplingLayer(6, 16, first.shared_nets)
    x = torch.randn(10, 6)
    assert (first(x)[0] - second(x)[0]).abs().max() > 1e-2


@pytest.mark.parametrize("reflections", [1, 4, 6])
def test_mixing_is_the_product_of_its_reflections(reflections):
    torch.manual_seed(0)
    mixing = HouseholderMixing(6, reflections).double()
    product = torch.eye(6, dtype=torch.float64)
    for v in mixing.vectors.detach().T:
        product = product @ (torch.eye(6, dtype=torch.float64) - 2 * torch.outer(v, v) / v.dot(v))
    x = torch.randn(9, 6, dtype=torch.float64)
    torch.testing.assert_close(mixing(x), x @ product)
    torch.testing.assert_close(mixing.inverse(x), x @ product.T)


def test_mixing_is_exact_for_nearly_parallel_reflections():
    mixing = HouseholderMixing(16, 12)
    with torch.no_grad():
        mixing.vectors.copy_(torch.randn(16, 1) + 1e-4 * torch.randn(16, 12))
    x = torch.randn(9, 16)
    torch.testing.assert_close(mixing.inverse(mixing(x)), x, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("dim", "latent"), [(2, 1), (7, 3), (24, 8), (24, 24)])
@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_flow_inverts_with_the_residual(dim, latent, dtype, tolerance):
    flow = randomise(OptimizedFlowDimensionalityReduction(dim, latent, hidden_dim=16).to(dtype), scale=0.2)
    x = torch.randn(4, 5, dim, dtype=dtype)
    z, residual, log_det = flow.split(x)
    assert (z.shape, residual.shape, log_det.shape) == ((4, 5, latent), (4, 5, dim - latent), (4, 5))
    torch.testing.assert_close(flow.inverse(z, residual), x, atol=tolerance, rtol=0)
    assert all(torch.equal(a, b) for a, b in zip(flow(x), (z, log_det), strict=True))


@pytest.mark.parametrize("dim", [5, 8])
def test_flow_determinant(dim):
    flow = randomise(OptimizedFlowDimensionalityReduction(dim, 2, hidden_dim=16).double())
    x = torch.randn(dim, dtype=torch.float64)
    determinant = slogdet(lambda x: torch.cat(flow.split(x)[:2]), x)
    torch.testing.assert_close(determinant, flow(x)[1], atol=1e-8, rtol=0)


def test_without_residual_the_inverse_lies_on_the_manifold():
    flow = randomise(OptimizedFlowDimensionalityReduction(9, 4, hidden_dim=16).double())
    z = torch.randn(6, 4, dtype=torch.float64)
    z_again, residual, _ = flow.split(flow.inverse(z))
    torch.testing.assert_close(z_again, z, atol=1e-10, rtol=0)
    torch.testing.assert_close(residual, flow.residual_mean.expand(6, 5), atol=1e-10, rtol=0)


def test_discarded_fraction_is_the_share_lost():
    flow = randomise(OptimizedFlowDimensionalityReduction(8, 3, hidden_dim=16).double())
    on_manifold = flow.inverse(torch.randn(20, 3, dtype=torch.float64)).detach()
    assert discarded_fraction(flow, on_manifold, flow(on_manifold)[0]) < 1e-20
    with torch.no_grad():  # without couplings the flow is a rotation, and the loss is what r holds
        flow.residual_mean.zero_()
        for coupling in flow.couplings:
            coupling.stretch_bound.zero_()
        for p in flow.couplings[0].shared_nets.decode.parameters():
            p.zero_()
    x = torch.randn(20, 8, dtype=torch.float64)
    z, residual, log_det = flow.split(x)
    lost = residual.square().sum() / x.square().sum()
    torch.testing.assert_close(discarded_fraction(flow, x, z), lost)
    torch.testing.assert_close(flow_loss(flow, x, z, log_det + 4), lost + 0.25)  # (4/8)²


def test_training_moves_the_information_into_z():
    torch.manual_seed(0)
    table = torch.randn(200, 4) @ torch.randn(4, 16) / 2  # four dimensions, turned away from the first four
    flow = OptimizedFlowDimensionalityReduction(16, 4, hidden_dim=16)
    optimizer = torch.optim.Adam(flow.parameters(), lr=1e-2)
    for _ in range(100):
        z, log_det = flow(table)
        optimizer.zero_grad()
        flow_loss(flow, table, z, log_det).backward()
        optimizer.step()
    z, log_det = flow(table)
    assert discarded_fraction(flow, table, z) < 0.05
    assert (log_det / 16).abs().mean() < 0.1


def test_gradients_reach_every_parameter():
    torch.manual_seed(0)
    flow = OptimizedFlowDimensionalityReduction(9, 4, hidden_dim=16)
    x = torch.randn(12, 9)
    flow_loss(flow, x, *flow(x)).backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in flow.parameters())


def test_precision_is_kept_under_autocast_and_for_low_precision_weights():
    flow = randomise(OptimizedFlowDimensionalityReduction(16, 4, hidden_dim=16))
    x = torch.randn(6, 16)
    expected = flow.split(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = flow.split(x)
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))
    flow, x = flow.bfloat16(), x.bfloat16()
    z, residual, log_det = flow.split(x)
    assert z.dtype == residual.dtype == log_det.dtype == torch.float32
    torch.testing.assert_close(flow.inverse(z, residual), x.float(), atol=1e-4, rtol=0)


def test_shared_nets_are_saved_once_and_loaded_for_every_coupling():
    flow = randomise(OptimizedFlowDimensionalityReduction(9, 4, hidden_dim=16))
    state = flow.state_dict()
    assert sum(t.numel() for t in state.values()) == sum(p.numel() for p in flow.parameters())
    other = OptimizedFlowDimensionalityReduction(9, 4, hidden_dim=16)
    other.load_state_dict(state)
    x = torch.randn(5, 9)
    assert torch.equal(other(x)[0], flow(x)[0])
    assert other.couplings[0].shared_nets is other.couplings[3].shared_nets


@pytest.mark.parametrize(
    "build",
    [
        lambda: SharedAffineCouplingLayer(1, 16),
        lambda: SharedAffineCouplingLayer(8, 0),
        lambda: SharedAffineCouplingLayer(8, 16, CouplingNets(6, 16)),
        lambda: OptimizedFlowDimensionalityReduction(8, 9),
        lambda: OptimizedFlowDimensionalityReduction(8, 0),
        lambda: OptimizedFlowDimensionalityReduction(1, 1),
        lambda: OptimizedFlowDimensionalityReduction(8, 4, num_flows=0),
    ],
)
def test_bad_sizes(build):
    with pytest.raises(LiquidError):
        build()


def test_inputs_of_another_size():
    flow = OptimizedFlowDimensionalityReduction(8, 3, hidden_dim=16)
    with pytest.raises(LiquidError, match="original_dim 8"):
        flow(torch.randn(2, 7))
    with pytest.raises(LiquidError, match="input_dim 8"):
        flow.couplings[0](torch.randn(2, 7))
    with pytest.raises(LiquidError, match="3 and 5"):
        flow.inverse(torch.randn(2, 4), torch.randn(2, 4))
