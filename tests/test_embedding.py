"""The embedding stage: once per distinct token, foldable into a table, and its round trip."""

import pytest
import torch
from helpers import randomise

from liquidlm.errors import LiquidError
from liquidlm.nn.embedding import OptimizedLiquidEmbeddingMFR
from liquidlm.nn.flows import flow_loss
from liquidlm.nn.ode import integrate

V, E, Z, H = 50, 12, 5, 8
TIMES = torch.linspace(0, 2, 4)


def make(vocab_size: int = V, embedding_dim: int = E, latent_dim: int = Z, **kwargs):
    """A stage in float64 with random parameters."""
    sizes = vocab_size, embedding_dim, latent_dim, H
    return randomise(OptimizedLiquidEmbeddingMFR(*sizes, flow_hidden_dim=16, **kwargs).double())


@pytest.fixture
def ids() -> torch.Tensor:
    return torch.randint(0, V, (3, 40), generator=torch.Generator().manual_seed(1))  # with repetitions


def test_equals_the_stages_by_hand_for_every_token(ids):
    stage = make()
    x, log_det = stage(ids, None, TIMES)
    assert x.shape == (3, 40, H) and log_det.shape == (3, 40)
    z, expected_log_det = stage.flow(stage.embedding(ids))
    torch.testing.assert_close(x, stage.gain * integrate(stage.ode, stage.w_e(z), TIMES))
    torch.testing.assert_close(log_det, expected_log_det)


def test_default_t_span_is_five_times_from_0_to_1(ids):
    stage = make()
    x, _ = stage(ids)
    torch.testing.assert_close(x, stage(ids, None, torch.linspace(0, 1, 5))[0])
    assert (x - stage(ids, None, TIMES)[0]).abs().max() > 0.1


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool])
def test_masked_positions_are_zero_and_the_others_untouched(ids, dtype):
    stage = make()
    mask = torch.ones_like(ids)
    mask[0, 30:] = mask[1, :5] = 0
    x, log_det = stage(ids, mask.to(dtype), TIMES)
    expected_x, expected_log_det = stage(ids, None, TIMES)
    assert not x[mask == 0].any() and not log_det[mask == 0].any()
    assert torch.equal(x[mask == 1], expected_x[mask == 1])
    assert torch.equal(log_det[mask == 1], expected_log_det[mask == 1])


def test_masked_positions_give_no_gradient(ids):
    stage = make()
    mask = torch.ones_like(ids)
    mask[ids == ids[0, 0]] = 0
    x, log_det = stage(ids, mask, TIMES)
    (x.square().sum() + log_det.sum()).backward()
    trained = stage.embedding.weight.grad.abs().sum(-1) > 0
    assert torch.equal(trained.nonzero().flatten(), ids[mask == 1].unique())


@pytest.mark.parametrize("batch_size", [7, 1024])
def test_folded_table_gathers_to_the_forward(ids, batch_size):
    stage = make()
    table = stage.fold(TIMES, batch_size)
    assert table.shape == (V, H) and not table.requires_grad
    torch.testing.assert_close(table[ids], stage(ids, None, TIMES)[0])
    torch.testing.assert_close(stage.fold()[ids], stage(ids)[0])


def test_flow_loss_of_the_forward_is_that_of_the_distinct_ids(ids):
    stage = make()
    *_, loss = stage(ids, None, TIMES, return_flow_loss=True)
    rows = stage.embedding(ids.unique())
    torch.testing.assert_close(loss, flow_loss(stage.flow, rows, *stage.flow(rows)))
    torch.testing.assert_close(loss, stage.flow_loss(ids))
    torch.testing.assert_close(loss, stage.flow_loss(ids.repeat(1, 3)))


def test_gradients_reach_every_parameter(ids):
    stage = OptimizedLiquidEmbeddingMFR(V, E, Z, H)
    x, _, loss = stage(ids, return_flow_loss=True)
    ((x * torch.randn_like(x)).sum() + loss).backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in stage.parameters())
    names = {name for name, _ in stage.named_children()}
    assert names == {"embedding", "flow", "w_e", "ode"}


def test_x_starts_at_a_tenth_with_distinct_tokens_apart():
    table = OptimizedLiquidEmbeddingMFR(500, 512, 128, 256).fold()
    assert table.square().mean().sqrt() == pytest.approx(0.1, abs=0.015)
    distances = torch.nn.functional.pdist(table) / 256**0.5
    assert distances.min() > 0.05


def test_adaptive_solver(ids):
    stage = make(method="dopri5")
    x, _ = stage(ids, None, TIMES)
    stage.method = "rk4"
    torch.testing.assert_close(x, stage(ids, None, torch.linspace(0, 2, 101))[0], atol=1e-3, rtol=0)


def test_precision_under_autocast_and_of_low_precision_weights(ids):
    stage = make().float()
    expected, _ = stage(ids)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(stage(ids)[0], expected)
    x, log_det = stage.bfloat16()(ids)
    assert x.dtype == torch.bfloat16 and log_det.dtype == torch.float32
    rounded, _ = stage.float()(ids)  # the same rounded weights: only the result is in bfloat16
    torch.testing.assert_close(x.float(), rounded, atol=0, rtol=2**-8)


def test_every_token_survives_without_reduction():
    assert make(latent_dim=E).round_trip_survival() == 1.0


def test_tokens_with_equal_z_do_not_survive():
    stage = make(vocab_size=20)
    with torch.no_grad():
        z = 3 * torch.randn(20, Z, dtype=torch.float64)
        z[7] = z[3]
        residual = stage.flow.residual_mean.repeat(20, 1)
        residual[7] += 1
        stage.embedding.weight.copy_(stage.flow.inverse(z, residual))
    assert stage.round_trip_survival(batch_size=6) == pytest.approx(19 / 20)  # 7 comes back as 3


def test_survival_rises_as_the_flow_trains():
    stage = OptimizedLiquidEmbeddingMFR(100, 16, 2, H, flow_hidden_dim=16)
    ids = torch.arange(100).view(1, -1)
    optimizer = torch.optim.Adam(stage.parameters(), lr=2e-2)
    before = stage.round_trip_survival()
    for _ in range(150):
        optimizer.zero_grad()
        stage.flow_loss(ids).backward()
        optimizer.step()
    after = stage.round_trip_survival()
    assert before < 0.5 and after > before + 0.4


@pytest.mark.parametrize("bad", [V, -1])
def test_id_outside_the_vocabulary(ids, bad):
    ids[2, 17] = bad
    message = rf"id {bad} at row 2, position 17 .* vocab_size, {V}, .* 50265"
    for call in (make(), make().flow_loss):
        with pytest.raises(LiquidError, match=message):
            call(ids)


def test_other_errors(ids):
    with pytest.raises(LiquidError, match="t_span"):
        make()(ids, None, torch.tensor([1.0]))
    for sizes in ((0, E, Z, H), (V, E, E + 1, H), (V, E, Z, 0)):
        with pytest.raises(LiquidError):
            OptimizedLiquidEmbeddingMFR(*sizes)


@pytest.mark.usefixtures("as_users_run")
def test_wrong_shapes(ids):
    stage = make()
    with pytest.raises(LiquidError, match="input_ids"):
        stage(ids[0])
    with pytest.raises(LiquidError, match="input_ids"):
        stage(ids.double())
    with pytest.raises(LiquidError, match="attention_mask"):
        stage(ids, torch.ones(1, 40))
