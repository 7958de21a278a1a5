"""The kernel that draws tokens against the processors of transformers."""

import math

import pytest
import torch
from native import needs_kernels

from liquidlm.errors import LiquidError
from liquidlm.inference.sampler import Sampler, narrowing
from liquidlm.inference.sampler import draw as draw_all
from liquidlm.inference.sampling import Sampling
from liquidlm.ops.native import sample_native

pytestmark = needs_kernels

CHOICES = [
    {},
    {"temperature": 0.3},
    {"temperature": 30.0},
    {"top_k": 1},
    {"top_k": 7},
    {"top_k": 10**6},
    {"top_p": 0.5},
    {"top_p": 1e-6},
    {"top_p": 0.95, "top_k": 40, "temperature": 1.7},
    {"temperature": 1e-4},
]


def sampled(logits, chance, temperature=1.0, top_k=0, top_p=1.0):
    """The same settings for every row."""
    rows = len(logits)
    return sample_native(
        logits,
        chance,
        torch.full((rows,), temperature),
        torch.full((rows,), top_k),
        torch.full((rows,), top_p, dtype=torch.float64),
    )


def logits_of(rows, vocabulary, seed=0):
    return 3 * torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("how", CHOICES)
@pytest.mark.parametrize(("rows", "vocabulary"), [(1, 1), (2, 5), (1, 64), (3, 261), (9, 1003)])
def test_the_token_is_where_the_processors_put_it(rows, vocabulary, how):
    """The cumulative probability reaches the chance at the token and not before it."""
    logits, number = logits_of(rows, vocabulary), 50
    scores = narrowing(Sampling(**({"temperature": 1.0, "top_p": 1.0} | how)))(
        torch.zeros(rows, 0).long(), logits
    )
    sums = scores.double().softmax(-1).cumsum(-1)
    for i in range(number):
        chance = torch.full((rows,), i / number, dtype=torch.float64)
        token = sampled(logits, chance, **how)[:, None]
        assert scores.gather(1, token).isfinite().all()
        assert (sums.gather(1, token) > chance[:, None] - 1e-5).all()
        before = torch.where(token > 0, sums.gather(1, (token - 1).clamp(min=0)), 0.0)
        assert (before < chance[:, None] + 1e-5).all()


def test_the_shares_of_tokens_are_their_probabilities():
    p = torch.tensor([[0.1, 0.2, 0.3, 0.4]]).expand(20_000, 4)
    chance = torch.rand(len(p), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = sampled(p.log().contiguous(), chance).bincount(minlength=4) / len(p)
    assert (found - p[0]).abs().max() < 0.015


def test_suppressed_tokens_are_never_drawn():
    logits = logits_of(4, 20)
    logits[:, 3:] = -math.inf
    for chance in (0.0, 0.5, 1 - 2**-53):
        token = sampled(logits, torch.full((4,), chance, dtype=torch.float64), temperature=1000.0)
        assert (token < 3).all()


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_logits_that_are_not_finite(wrong, monkeypatch):
    logits = logits_of(2, 70)
    logits[1, 65] = wrong
    assert sampled(logits, torch.zeros(2, dtype=torch.float64)).tolist()[1] == -1
    assert sampled(logits, torch.zeros(2, dtype=torch.float64), temperature=0.0).tolist()[1] == -1
    assert sampled(torch.full((1, 5), -math.inf), torch.zeros(1, dtype=torch.float64)).tolist() == [-1]
    for native in (True, False):
        if not native:
            monkeypatch.setattr("liquidlm.inference.sampler.takes", lambda **_: False)
        with pytest.raises(LiquidError, match="not finite"):
            Sampler(Sampling(seed=0), 1, logits, None, ())(logits)


def test_a_seed_gives_the_same_tokens_as_torch(monkeypatch):
    logits, drawn = logits_of(5, 300), []
    for native in (True, False):
        if not native:
            monkeypatch.setattr("liquidlm.inference.sampler.takes", lambda **_: False)
        draw = Sampler(Sampling(seed=3, top_k=50), 40, logits, None, ())
        drawn.append(torch.stack([draw(logits) for _ in range(40)]))
    assert torch.equal(*drawn)


def test_temperature_0_takes_the_first_of_the_likeliest():
    logits = logits_of(3, 130)
    logits[0, 70] = logits[0, 129] = 50.0
    found = sampled(logits, torch.rand(3, dtype=torch.float64), temperature=0.0)
    assert found[0] == 70 and torch.equal(found, logits.argmax(-1))


@pytest.mark.parametrize("native", [True, False])
def test_rows_with_settings_of_their_own_draw_as_alone(native, monkeypatch):
    if not native:
        monkeypatch.setattr("liquidlm.inference.sampler.takes", lambda **_: False)
    hows = [
        Sampling(temperature=0.0, seed=0),
        Sampling(temperature=1.5, top_p=1.0, seed=1),
        Sampling(top_k=3, seed=2),
        Sampling(repetition_penalty=5.0, seed=3),
        Sampling(temperature=1.0, top_p=0.4, seed=4),
    ]
    logits, context = logits_of(len(hows), 300), torch.arange(20)[None]

    def samplers():
        return [Sampler(how, 30, logits[:1], context, ()) for how in hows]

    together, alone = samplers(), samplers()
    for step in range(30):
        of_all = draw_all(together, logits.roll(step, 1))
        of_each = [one(rows.roll(step, 1)) for one, rows in zip(alone, logits.split(1), strict=True)]
        assert torch.equal(of_all, torch.cat(of_each))
