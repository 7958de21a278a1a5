"""When: the distribution of the next gap, and the model that learns it."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers import error, event_times, randomise, state_error
from torch.distributions import Categorical, LogNormal, MixtureSameFamily

from liquidlm import LiquidConfig, LiquidError, LiquidTextGenerationModel
from liquidlm.inference.generate import read_output, write_timed
from liquidlm.inference.sampler import processors
from liquidlm.inference.sampling import Sampling
from liquidlm.nn.time_head import NARROWEST, GapDistribution, TimeHead
from liquidlm.nn.timestamps import next_gaps

V, H, K = 30, 16, 4
SMALL: dict[str, Any] = {
    "vocab_size": V,
    "embedding_dim": 8,
    "latent_dim": 4,
    "hidden_size": H,
    "num_hidden_layers": 2,
}


def distribution(*shape: int, seed: int = 0, resolution: float = 0.0) -> GapDistribution:
    head = randomise(TimeHead(H, V, K, resolution).double(), seed)
    generator = torch.Generator().manual_seed(seed)
    h = torch.randn(*shape, H, generator=generator, dtype=torch.float64)
    return head(h, torch.randint(0, V, shape, generator=generator))


def tiny(**options) -> LiquidTextGenerationModel:
    torch.manual_seed(0)
    config = LiquidConfig(**(SMALL | {"ngram_rows": 40, "time_components": K, "dropout_rate": 0.0} | options))
    return randomise(LiquidTextGenerationModel(config), scale=0.1).double().eval()


def tokens(batch: int = 2, length: int = 30) -> torch.Tensor:
    return torch.randint(0, V, (batch, length), generator=torch.Generator().manual_seed(1))


def test_is_torch_s_mixture_with_a_chance_of_none() -> None:
    d = distribution(3, 5)
    theirs = MixtureSameFamily(Categorical(logits=d.log_weights), LogNormal(d.mean, d.deviation))
    gap = torch.rand(3, 5, dtype=torch.float64) * 9 + 0.01
    some = torch.log1p(-d.zero.sigmoid())
    assert error(d.log_prob(gap), some + theirs.log_prob(gap)) < 1e-12
    assert error(d.log_prob(torch.zeros_like(gap)), d.zero.sigmoid().log()) < 1e-12
    none = d.zero.sigmoid()
    assert error(d.cdf(gap), none + (1 - none) * theirs.cdf(gap)) < 1e-12
    assert error(d.cdf(torch.zeros_like(gap)), none) < 1e-12


@pytest.mark.parametrize("p", [0.05, 0.5, 0.99])
def test_quantiles(p: float) -> None:
    d = distribution(40)
    gap = d.quantile(p)
    none = d.zero.sigmoid() >= p
    assert bool((gap[none] == 0).all()) and error(d.cdf(gap)[~none], torch.full_like(gap[~none], p)) < 1e-9


@pytest.mark.parametrize("resolution", [0.0, 0.25])
def test_samples_have_the_distribution(resolution: float) -> None:
    one = distribution(1, resolution=resolution)
    parts = (one.zero, one.log_weights, one.mean, one.deviation)
    d = GapDistribution(*(part.expand(40_000, *part.shape[1:]) for part in parts), resolution)
    gaps = d.sample(torch.Generator().manual_seed(0))
    for p in (0.1, 0.5, 0.9):
        if (limit := one.quantile(p)).item() > 0:
            share = one.cdf(limit).item()
            assert (gaps <= limit).double().mean().item() == pytest.approx(share, abs=0.01)
            assert share >= p - 1e-9 and one.cdf(limit - resolution).item() <= p + 1e-9
    if resolution:
        n = gaps / resolution
        assert error(n, n.round()) < 1e-9 and len(n.unique()) > 10
    assert (gaps == 0).double().mean().item() == pytest.approx(one.zero.sigmoid().item(), abs=0.01)
    assert torch.equal(gaps, d.sample(torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("resolution", [1.0, 0.05, 7.0])
def test_recorded_gaps_have_the_probability_of_their_interval(resolution: float) -> None:
    """Which sums to one, is what integrating the density gives, and does so near and far."""
    d = distribution(2, 3, resolution=resolution)
    exact = replace(d, resolution=0.0)
    none = d.zero.sigmoid()
    n = torch.arange(1, 4000, dtype=torch.float64)
    parts = (d.zero, d.log_weights, d.mean, d.deviation)
    many = GapDistribution(*(part.expand(len(n), *part.shape) for part in parts), resolution)
    each = many.log_prob(n[:, None, None].expand(-1, 2, 3) * resolution).exp() * resolution
    last = d.cdf((n[-1] * resolution).expand(2, 3))
    assert error(each.sum(0), last - none) < 1e-9
    for k in (1, 2, 7):
        ends = [0.0 if k == 1 else (k - 0.5) * resolution, (k + 0.5) * resolution]
        between = exact.cdf(torch.full((2, 3), ends[1]).double()) - exact.cdf(
            torch.full((2, 3), ends[0]).double()
        )
        assert error(each[k - 1], between) < 1e-8  # what ndtr is good to in its tail
        at = torch.full((2, 3), k * resolution, dtype=torch.float64)
        for moved in (at, at * (1 - 1e-7), at * (1 + 1e-7)):  # a clock's steps are not float's
            assert error(d.cdf(moved) + d.survival(moved) - each[k - 1], torch.ones(2, 3).double()) < 1e-8
    zero = torch.zeros(2, 3, dtype=torch.float64)
    assert torch.equal(d.survival(zero), torch.ones_like(zero)) and error(d.cdf(zero), none) < 1e-12
    assert error(exact.cdf(at) + exact.survival(at), torch.ones_like(at)) < 1e-12
    near = torch.full((2, 3), 3.2 * resolution, dtype=torch.float64)
    assert torch.equal(d.log_prob(near), d.log_prob(torch.full_like(near, 3 * resolution)))
    assert error(d.log_prob(torch.zeros_like(near)), none.log()) < 1e-12


@pytest.mark.parametrize("p", [0.2, 0.5, 0.9])
def test_quantiles_are_recorded_gaps(p: float) -> None:
    d = distribution(40, resolution=0.25)
    gap = d.quantile(p)
    assert torch.equal(gap, (gap / 0.25).round() * 0.25) and len(gap.unique()) > 2
    assert bool((d.cdf(gap) >= p - 1e-9).all())


def test_no_component_is_narrower_than_the_narrowest() -> None:
    head = TimeHead(H, V, K).double()
    with torch.no_grad():
        head.of_state.bias.fill_(-1e3)
    made = head(torch.zeros(3, H, dtype=torch.float64), torch.arange(3))
    assert bool((made.deviation >= NARROWEST).all())


def test_no_gap_is_too_long_to_be_recorded() -> None:
    d = replace(distribution(1), resolution=1e-12)
    far = torch.tensor([1e30])
    assert torch.equal(d.recorded(far), far) and bool(d.log_prob(far.double()).isfinite().all())


def test_a_fine_resolution_is_the_density() -> None:
    fine = distribution(2, 3, resolution=1e-7)
    exact, rough = replace(fine, resolution=0.0), replace(fine, resolution=1.0)
    for gap in (0.01, 1.0, 300.0):
        at = torch.full((2, 3), gap, dtype=torch.float64)
        assert error(fine.log_prob(at), exact.log_prob(at)) < 1e-4
    single = GapDistribution(
        *(part.float() for part in (rough.zero, rough.log_weights, rough.mean, rough.deviation)), 1.0
    )
    for gap in (1.0, 2.0, 10.0, 1e3, 1e5, 1e9):  # where float32 has no more the difference of the ends
        at = torch.full((2, 3), gap, dtype=torch.float64)
        assert (single.log_prob(at.float()).double() / rough.log_prob(at) - 1).abs().max() < 2e-3


@pytest.mark.parametrize("resolution", [0.0, 1.0])
def test_gradients_are_finite_at_any_gap(resolution: float) -> None:
    head = randomise(TimeHead(H, V, K, resolution))
    h = torch.randn(6, H, requires_grad=True)
    gaps = torch.tensor([0.0, 1e-30, 1e-3, 1.0, 1e9, 1e30])
    head(h, torch.arange(6)).log_prob(gaps).sum().backward()
    assert all(bool(x.grad.isfinite().all()) for x in [h, *head.parameters()])


# ---- in the model


def test_the_loss_is_what_and_when() -> None:
    model, ids, times = tiny(time_scale=2.5), tokens(), event_times(2, 30)
    out = model(ids, timestamps=times, labels=ids)
    what = model(ids, timestamps=times).logits[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None]).mean()
    gaps = times.diff(dim=1) / 2.5
    when = model.next_gap(out.features[:, :-1], ids[:, 1:]).log_prob(gaps).mean()
    assert error(out.time_loss, -when) < 1e-12 and error(out.loss, -what - when) < 1e-12
    assert model(ids, labels=ids).time_loss is None  # no times, nothing to predict
    trained = model.train()(ids, timestamps=times, labels=ids)
    assert error(trained.loss - model.config.flow_loss_weight * trained.flow_loss, out.loss) < 1e-12


def test_what_comes_is_learned_as_without_a_time_head() -> None:
    """The time head has a block of its own, and its gradient stops there."""
    model, ids, times = tiny(), tokens(), event_times(2, 30)
    own = ("time_head.", "time_norm.", f"blocks.{len(model.blocks) - 1}.")
    grads = []
    for shift_timestamps in (times.roll(-1, 1).clamp(min=times), None):
        model.zero_grad()
        loss = model(ids, timestamps=times, shift_timestamps=shift_timestamps, shift_labels=ids).loss
        loss.backward()
        grads.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    with_time, without = grads
    assert {name for name in with_time if name not in without} >= {"time_head.of_state.weight"}
    for name, grad in with_time.items():
        assert bool(grad.abs().sum() > 0), name
        assert name.startswith(own) == (name not in without), name
        assert name.startswith(own) or torch.equal(grad, without[name]), name


def test_a_time_head_leaves_the_logits_alone() -> None:
    model, ids, times = tiny(), tokens(), event_times(2, 30)
    kept = {n: p for n, p in model.state_dict().items() if not n.startswith(("time_", "blocks.2."))}
    plain = tiny(time_components=0)
    plain.load_state_dict(kept)
    assert torch.equal(plain(ids, timestamps=times).logits, model(ids, timestamps=times).logits)


@pytest.mark.parametrize("memory_scale", [None, 20.0])
def test_in_windows_packed_and_padded(memory_scale: float | None) -> None:
    """Bit by bit what one document alone gives: over windows with shifted times, starts, and padding."""
    model, ids, times = tiny(memory_scale=memory_scale), tokens(1, 40), event_times(1, 40)
    whole = model(ids, timestamps=times, labels=ids)
    count = 39
    state, total = model.new_state(), 0.0
    labels, later = ids.roll(-1, 1), times.roll(-1, 1)
    labels[0, -1], later[0, -1] = -100, float("nan")  # of what does not count nothing is asked
    for part in (slice(0, 7), slice(7, 8), slice(8, 40)):
        out = model(
            ids[:, part],
            timestamps=times[:, part],
            shift_labels=labels[:, part],
            shift_timestamps=later[:, part],
            past_key_values=state,
            use_cache=True,
            num_items_in_batch=count,
        )
        total = total + torch.stack([out.loss, out.time_loss])
    assert error(total, torch.stack([whole.loss, whole.time_loss])) < 1e-12
    starts = torch.zeros(1, 80, dtype=torch.bool)
    starts[0, [0, 40]] = True
    both = model(ids.repeat(1, 2), timestamps=times.repeat(1, 2), labels=ids.repeat(1, 2), starts=starts)
    assert error(both.loss, whole.loss) < 1e-12 and error(both.time_loss, whole.time_loss) < 1e-12
    for left, right in ((3, 0), (0, 3)):
        pad = torch.nn.functional.pad
        mask = pad(torch.ones_like(ids), (left, right))
        out = model(
            pad(ids, (left, right)),
            mask,
            timestamps=pad(times, (left, right)),
            labels=pad(ids, (left, right)),
        )
        assert error(out.loss, whole.loss) < 1e-12 and error(out.time_loss, whole.time_loss) < 1e-12


def test_another_unit_changes_nothing() -> None:
    ids, times = tokens(), event_times(2, 30)
    for resolution in (0.0, 1.5):
        seconds = tiny(time_scale=6.0, time_resolution=resolution)
        minutes = tiny(time_scale=0.1, time_resolution=resolution / 60)
        a, b = seconds(ids, timestamps=times, labels=ids), minutes(ids, timestamps=times / 60, labels=ids)
        assert error(a.logits, b.logits) < 1e-9 and error(a.time_loss, b.time_loss) < 1e-9


def test_every_parameter_of_the_head_learns() -> None:
    model, ids = tiny().train(), tokens()
    model(ids, timestamps=event_times(2, 30), labels=ids).loss.backward()
    assert model.time_head is not None
    grads = {name: p.grad for name, p in model.time_head.named_parameters()}
    assert all(grad is not None and bool(grad.abs().sum() > 0) for grad in grads.values())


def test_a_larger_vocabulary() -> None:
    model: Any = tiny()
    ids, times = tokens(), event_times(2, 30)
    before = model(ids, timestamps=times, labels=ids).time_loss
    model.resize_token_embeddings(V + 7)
    assert error(model(ids, timestamps=times, labels=ids).time_loss, before) < 1e-12
    assert bool(model(ids + 7, timestamps=times, labels=ids + 7).loss.isfinite())


def test_one_distribution_alone_is_sampled() -> None:
    model = tiny()
    gap = model.next_gap(torch.randn(H, dtype=torch.float64), torch.tensor(3))
    assert gap.sample().shape == () and gap.quantile(0.5).shape == ()


def test_mistakes() -> None:
    model, ids, times = tiny(), tokens(), event_times(2, 30)
    later = times.roll(-1, 1)
    with pytest.raises(LiquidError, match="row 0, position 29 is at"):
        model(ids, timestamps=times, shift_labels=ids, shift_timestamps=later)
    timeless = tiny(time_components=0)
    output = read_output(timeless, ids, timeless.new_state())
    with pytest.raises(LiquidError, match="this model predicts tokens"):
        next(write_timed(timeless, output, timeless.new_state(), Sampling(), 3))
    with pytest.raises(LiquidError, match="without timestamps"):
        model(ids, shift_labels=ids, shift_timestamps=later)
    with pytest.raises(LiquidError, match="this model predicts tokens"):
        timeless.next_gap(torch.zeros(1, H), torch.zeros(1, dtype=torch.long))
    with pytest.raises(LiquidError, match="time_components must be at least 0"):
        LiquidConfig(**SMALL, time_components=-1)
    with pytest.raises(LiquidError, match="memory_scale must be positive"):
        LiquidConfig(**SMALL, memory_scale=0.0)
    with pytest.raises(LiquidError, match="time_resolution must be at least 0"):
        LiquidConfig(**SMALL, time_resolution=-1.0)
    with pytest.raises(LiquidError, match=r"position 1 is at 3\.0, the next one at nan"):
        next_gaps(torch.tensor([[1.0, 3.0]]), torch.tensor([[2.0, math.nan]]), torch.tensor([[True, True]]))


# ---- writing


def test_writing_draws_times_from_the_head() -> None:
    """Tokens and gaps are those that the whole text's features give, draw by draw."""
    model, ids = tiny(time_scale=3.0), tokens(2, 9)
    times, state = event_times(2, 9), model.new_state()
    output = read_output(model, ids, state, times)
    written = list(write_timed(model, output, state, Sampling(seed=3), 20))
    again = model.new_state()
    output = read_output(model, ids, again, times)
    assert all(
        torch.equal(a, b)
        for pair in zip(written, write_timed(model, output, again, Sampling(seed=3), 20), strict=True)
        for a, b in zip(*pair, strict=True)
    )
    new, when = (torch.stack(part, 1) for part in zip(*written, strict=True))
    every = torch.cat([times, when], 1)
    assert bool((every.diff(dim=1) >= 0).all())
    whole = model(torch.cat([ids, new], 1), timestamps=every)
    assert error(state.last_time, every[:, -2]) == 0  # the last token is not read
    generator = torch.Generator().manual_seed(3)
    for i in range(20):  # the same draws, one by one
        chosen: Any = processors(Sampling())
        sums = chosen(None, whole.logits[:, 8 + i].float()).softmax(-1, dtype=torch.float64).cumsum(-1)
        chance = torch.rand(2, dtype=torch.float64, generator=generator)
        token = torch.searchsorted(sums, chance[:, None] * sums[:, -1:], right=True)[:, 0]
        gap = model.next_gap(whole.features[:, 8 + i], token).sample(generator)
        assert torch.equal(token, new[:, i]) and error(every[:, 8 + i] + 3 * gap, every[:, 9 + i]) < 1e-9


def test_transformers_generate_draws_times_too() -> None:
    model: Any = tiny()
    ids, times = tokens(2, 9), event_times(2, 9)
    torch.manual_seed(5)
    out = model.generate(
        ids,
        timestamps=times,
        max_new_tokens=12,
        do_sample=True,
        return_dict_in_generate=True,
        eos_token_id=None,
    )
    state = out.past_key_values
    assert len(state.written_times) == 11  # the last token was not read
    every = torch.cat([times, torch.stack(state.written_times, 1)], 1)
    assert error(state.last_time, every[:, -1]) == 0 and bool((every.diff(dim=1) >= 0).all())
    assert len({round(gap, 6) for gap in every.diff(dim=1)[:, 9:].flatten().tolist()}) > 4
    other = model.new_state()
    model(out.sequences[:, :20], timestamps=every, past_key_values=other, use_cache=True)
    assert state_error(state.states()[-1], other.states()[-1]) < 1e-9
    plain = model.generate(ids, max_new_tokens=5, return_dict_in_generate=True, do_sample=False)
    assert not plain.past_key_values.written_times
    greedy = [model.generate(ids, timestamps=times, max_new_tokens=6, do_sample=False) for _ in range(2)]
    assert torch.equal(*greedy)
    for more in ({"use_cache": False}, {"cache_implementation": "static"}):
        with pytest.raises(LiquidError, match="drawn with a liquid state"):
            model.generate(ids, timestamps=times, max_new_tokens=3, **more)
    later = torch.cat([every, every[:, -1:] + 1e6], 1)
    model.generate(
        out.sequences,
        timestamps=later,
        max_new_tokens=4,
        past_key_values=state,
        do_sample=True,
        eos_token_id=None,
    )
    assert len(state.written_times) == 3  # those of this call
    with pytest.raises(LiquidError, match="beam search cannot draw times"):
        model.generate(ids, timestamps=times, max_new_tokens=3, num_beams=2, do_sample=False)


# ---- silence


def test_a_silence_in_two_parts_is_one() -> None:
    """A padded position within a gap, at any time, is no event: not for the state, nor for what follows."""
    model, ids, times = tiny(time_scale=0.7), tokens(2, 12), event_times(2, 12)
    silent = torch.tensor([0, 1, 2, 3, 4, 4, 5, 6, 7, 8, 9, 9, 10, 11])
    mask = torch.ones(2, 14)
    mask[:, [5, 11]] = 0
    apart = times[:, silent].clone()
    for at in (5, 11):
        apart[:, at] = (apart[:, at - 1] + apart[:, at + 1]) / 2
    one, two = model.new_state(), model.new_state()
    whole = model(ids, timestamps=times, past_key_values=one, use_cache=True)
    parts = model(ids[:, silent], mask, timestamps=apart, past_key_values=two, use_cache=True)
    real = mask[0].bool()
    assert error(parts.logits[:, real], whole.logits) < 1e-12
    assert all(state_error(a, b) < 1e-12 for a, b in zip(one.states(), two.states(), strict=True))


def test_chunked_reading_with_times_is_one_pass() -> None:
    model, ids, times = tiny(), tokens(2, 33), event_times(2, 33)
    whole, one = model(ids, timestamps=times), model.new_state()
    found = read_output(model, ids, one, times, chunk=7)
    assert error(found.logits[:, -1], whole.logits[:, -1]) < 1e-12
    assert error(found.features[:, -1], whole.features[:, -1]) < 1e-12
