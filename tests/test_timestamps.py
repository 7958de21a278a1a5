import math

import pytest
import torch

from liquidlm.errors import LiquidError
from liquidlm.nn.timestamps import elapsed, generate_timestamps

INF = math.inf


def times(*rows):
    return torch.tensor(rows, dtype=torch.float64)


# ---- generate_timestamps


def test_uniform_is_the_token_index():
    assert generate_timestamps(2, 4).tolist() == [[0, 1, 2, 3]] * 2
    assert generate_timestamps(1, 3, rate=4.0).tolist() == [[0, 0.25, 0.5]]


@pytest.mark.parametrize("kind", ["uniform", "poisson", "bursty"])
def test_every_kind_is_float64_begins_at_zero_and_never_decreases(kind):
    generated = generate_timestamps(3, 200, kind, seed=1)
    assert generated.dtype == torch.float64 and generated.shape == (3, 200)
    assert (generated[:, 0] == 0).all() and (generated.diff(dim=1) >= 0).all()
    assert generate_timestamps(2, 1, kind).tolist() == [[0], [0]]


@pytest.mark.parametrize("kind", ["poisson", "bursty"])
def test_seeded_and_without_the_global_generator(kind):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    generated = generate_timestamps(2, 50, kind, seed=7)
    assert torch.equal(generated, generate_timestamps(2, 50, kind, seed=7))
    assert not torch.equal(generated, generate_timestamps(2, 50, kind, seed=8))
    assert not torch.equal(generated[0], generated[1])
    unseeded = [generate_timestamps(2, 50, kind) for _ in range(2)]
    assert not torch.equal(*unseeded)
    assert torch.equal(torch.get_rng_state(), before)


def test_poisson_gaps_are_exponential_with_mean_one_over_rate():
    gaps = generate_timestamps(4, 20_001, "poisson", rate=5.0, seed=0).diff(dim=1).flatten()
    assert gaps.mean().item() == pytest.approx(1 / 5, rel=0.02)
    for quantile in (0.1, 0.5, 0.9):
        assert gaps.quantile(quantile).item() == pytest.approx(-math.log(1 - quantile) / 5, rel=0.03)


def test_bursty_has_simultaneous_events_near_ones_and_heavy_tailed_pauses_of_the_same_rate():
    # A pause is at least `shortest`, and longer than x times that with probability x^(−3/2).
    shortest = (1 - 7 / 8 * 0.5 * 0.01) * 8 / 3
    gaps = 2 * generate_timestamps(4, 50_001, "bursty", rate=2.0, seed=0).diff(dim=1).flatten()
    pauses = gaps[gaps > 0.999 * shortest]
    near = gaps[(gaps > 1e-9) & (gaps < 0.999 * shortest)]
    assert len(pauses) / len(gaps) == pytest.approx(1 / 8, rel=0.05)
    assert len(near) / len(gaps) == pytest.approx(7 / 16, rel=0.05) and near.mean().item() < 0.011
    assert (pauses > 4 * shortest).double().mean().item() == pytest.approx(1 / 8, rel=0.1)
    assert gaps.mean().item() == pytest.approx(1.0, rel=0.2)  # its variance is infinite


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0, "seq_length": 3}, "at least 1"),
        ({"batch_size": 2, "seq_length": -1}, "at least 1"),
        ({"batch_size": 1, "seq_length": 3, "kind": "weekly"}, "'weekly'.*uniform, poisson, bursty"),
        ({"batch_size": 1, "seq_length": 3, "rate": 0.0}, "rate"),
        ({"batch_size": 1, "seq_length": 3, "rate": math.nan}, "rate"),
    ],
)
def test_bad_requests_for_timestamps(arguments, message):
    with pytest.raises(LiquidError, match=message):
        generate_timestamps(**arguments)


# ---- elapsed


def test_gaps_of_a_fresh_sequence_begin_with_a_document_start():
    gaps = elapsed(times([5, 5, 6, 10], [-3, 0, 0, 0.5]))
    assert gaps.dtype == torch.float32
    assert gaps.tolist() == [[INF, 0, 1, 4], [INF, 3, 0, 0.5]]
    unmarked = torch.zeros(1, 2, dtype=torch.bool)
    assert elapsed(times([5, 6]), starts=unmarked).tolist() == [[INF, 1]]


def test_last_time_continues_a_row_and_minus_infinity_is_a_row_without_a_past():
    assert elapsed(times([5, 6], [7, 9]), torch.tensor([2.0, -INF])).tolist() == [[3, 1], [INF, 2]]


@pytest.mark.parametrize("cut", [1, 2, 5])
def test_any_cut_gives_the_gaps_of_the_whole(cut):
    t = generate_timestamps(3, 6, "bursty", seed=3)
    whole = elapsed(t, time_scale=0.3, dtype=torch.float64)
    parts = [
        elapsed(t[:, :cut], time_scale=0.3, dtype=torch.float64),
        elapsed(t[:, cut:], t[:, cut - 1], time_scale=0.3, dtype=torch.float64),
    ]
    assert torch.equal(torch.cat(parts, dim=1), whole)


def test_a_document_start_is_an_infinite_gap_and_time_may_begin_again_there():
    starts = torch.tensor([[False, False, True, False]])
    assert elapsed(times([8, 9, 2, 3]), torch.tensor([6.0]), starts=starts).tolist() == [[2, 1, INF, 1]]


def test_differences_are_taken_in_float64_and_scaled_before_the_cast():
    epoch = 1_700_000_000.0  # a float32 has steps of 128 s here
    t = times([epoch, epoch + 0.25])
    assert elapsed(t, time_scale=0.5)[0, 1] == 0.5
    assert elapsed(torch.tensor([[10, 13]])).tolist() == [[INF, 3]]  # integer times too
    third = elapsed(times([0, 1]), time_scale=3.0, dtype=torch.float64)
    assert third.dtype == torch.float64 and third[0, 1].item() == 1 / 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_finite_gap_however_long_is_not_a_document_start(dtype):
    gaps = elapsed(times([-1.7e308, 1.7e308]), time_scale=1e-300, dtype=dtype)
    assert gaps[0, 1] == torch.finfo(dtype).max


def test_padding_anywhere_is_skipped_whatever_its_time():
    nan = math.nan
    t = times([nan, 1, -INF, nan, 4, 99], [2, 3, 0, 5, -7, 5], [nan] * 6)
    mask = torch.tensor([[0, 1, 0, 0, 1, 0], [1, 1, 0, 1, 0, 1], [0] * 6])
    expected = [[0, INF, 0, 0, 3, 0], [INF, 1, 0, 2, 0, 0], [0] * 6]
    assert elapsed(t, mask=mask).tolist() == expected
    with_past = elapsed(t, torch.tensor([0.5, 2.0, -INF]), mask=mask.bool())
    expected[0][1], expected[1][0] = 0.5, 0
    assert with_past.tolist() == expected


def test_a_start_on_a_padded_position_says_nothing():
    starts = torch.tensor([[True, True, True, False]])
    mask = torch.tensor([[True, True, False, True]])
    assert elapsed(times([0, 1, 2, 3]), starts=starts, mask=mask).tolist() == [[INF, INF, 0, 2]]


def test_gaps_equal_a_loop_over_random_rows():
    generator = torch.Generator().manual_seed(0)
    shape = (20, 30)
    t = generate_timestamps(*shape, "bursty", seed=5)
    starts = torch.rand(shape, generator=generator) < 0.1
    mask = torch.rand(shape, generator=generator) < 0.7
    last_time = -torch.rand(20, generator=generator, dtype=torch.float64)
    expected = torch.zeros(shape, dtype=torch.float64)
    for row in range(20):
        before = last_time[row]
        for i in range(30):
            if mask[row, i]:
                expected[row, i] = INF if starts[row, i] else (t[row, i] - before) / 0.7
                before = t[row, i]
    assert torch.equal(elapsed(t, last_time, 0.7, starts, mask, dtype=torch.float64), expected)


def test_gradients_of_finite_gaps_and_none_through_starts_and_padding():
    t = times([0, 1, math.nan, 3, 4, 6]).requires_grad_()
    past = times([-1.0])[0].requires_grad_()
    starts = torch.tensor([[False, False, False, False, True, False]])
    mask = torch.tensor([[True, True, False, True, True, True]])
    weights = times([1, 10, 100, 1000, 10_000, 100_000])
    gaps = elapsed(t, past, 2.0, starts, mask, dtype=torch.float64)
    (torch.exp(-gaps) * weights).sum().backward()
    slope = -0.5 * weights * torch.exp(-gaps.detach())  # d/dt_i of its own gap's term; 0 at the start
    slope[:, 2] = 0
    expected = slope.clone()
    expected[0, 0] -= slope[0, 1]
    expected[0, 1] -= slope[0, 3]  # over the padded position
    expected[0, 4] -= slope[0, 5]
    torch.testing.assert_close(t.grad, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(past.grad, -slope[:, 0], rtol=1e-12, atol=0)


def test_no_tokens_no_gaps():
    assert elapsed(torch.zeros(2, 0)).shape == (2, 0)
    assert elapsed(torch.zeros(0, 3)).shape == (0, 3)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([0, 5, 4, 6], "row 1, position 2 is 4.0, after 5.0.*not decrease"),
        ([0, 5, math.nan, 6], "row 1, position 2 is nan"),
        ([0, 5, 6, math.inf], "row 1, position 3 is inf"),
        ([-math.inf, 5, 6, 7], "row 1, position 0 is -inf"),
    ],
)
def test_times_that_cannot_be_are_named(row, message):
    with pytest.raises(LiquidError, match=message):
        elapsed(times([0, 1, 2, 3], row))


def test_times_that_go_back_behind_the_past_or_a_padded_position_are_named():
    with pytest.raises(LiquidError, match=r"row 0, position 0 is 1.0, after 1.5"):
        elapsed(times([1, 2]), torch.tensor([1.5]))
    with pytest.raises(LiquidError, match=r"row 0, position 0 is 1.0, after nan"):
        elapsed(times([1, 2]), torch.tensor([math.nan]))
    with pytest.raises(LiquidError, match=r"row 0, position 2 is 4.0, after 5.0"):
        elapsed(times([5, 0, 4]), mask=torch.tensor([[1, 0, 1]]))
    with pytest.raises(LiquidError, match=r"position 1 is nan"):  # a start is no excuse
        elapsed(times([1, math.nan]), starts=torch.tensor([[True, True]]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"timestamps": torch.zeros(3)}, r"timestamps.*\(3,\)"),
        ({"timestamps": torch.zeros(2, 3, 1)}, "timestamps"),
        ({"last_time": torch.zeros(3)}, r"last_time.*\(2,\)"),
        ({"starts": torch.zeros(2, 1, dtype=torch.bool)}, r"starts.*\(2, 3\)"),
        ({"mask": torch.ones(3)}, "mask"),
        ({"time_scale": 0.0}, "time_scale"),
        ({"time_scale": -1.0}, "time_scale"),
        ({"time_scale": INF}, "time_scale"),
        ({"time_scale": math.nan}, "time_scale"),
    ],
)
def test_bad_arguments_of_elapsed(arguments, message):
    with pytest.raises(LiquidError, match=message):
        elapsed(**({"timestamps": torch.zeros(2, 3)} | arguments))
