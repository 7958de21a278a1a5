"""The figures of held-out text, against sums by hand."""

import math

import numpy as np
import pytest
import torch
from helpers import randomise

from liquidlm import LiquidConfig, LiquidTextGenerationModel
from liquidlm.inference.evaluate import evaluate
from liquidlm.model.step import LiquidStep
from liquidlm.text.token_corpus import TokenCorpus

V, EOS = 30, 2


def tiny(**options) -> LiquidTextGenerationModel:
    torch.manual_seed(0)
    sizes = {"embedding_dim": 8, "latent_dim": 4, "hidden_size": 16, "num_hidden_layers": 2, "ngram_rows": 40}
    config = LiquidConfig(vocab_size=V, dropout_rate=0.0, **sizes, **options)
    return randomise(LiquidTextGenerationModel(config), scale=0.1).double().eval()


def corpus(times: bool) -> TokenCorpus:
    """Two documents, of 30 tokens and 20."""
    ids = np.random.default_rng(0).integers(3, V, 50).astype(np.int32)
    starts = np.array([0, 30])
    ids[[29, 49]] = EOS
    clock = np.random.default_rng(1).integers(0, 3, 50).cumsum() * 4.0
    clock[30:] -= clock[30] - 1.0
    return TokenCorpus(ids, starts, 123, clock if times else None, 9 if times else 0)


@torch.no_grad()
def by_hand(model, text: TokenCorpus) -> tuple[float, float, int]:
    """(nats of what comes, nats of when, tokens), document by document."""
    what, when, count = 0.0, 0.0, 0
    for begin, end in ((0, 30), (30, 50)):
        ids = torch.from_numpy(np.asarray(text.tokens[begin : end - 1]).astype(np.int64))[None]
        times = None if text.times is None else torch.from_numpy(text.times[begin : end - 1])[None]
        output = model(ids, timestamps=times)
        what -= output.logits[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None]).sum().item()
        count += ids.shape[1] - 1
        if times is not None:
            gaps, scale = times.diff(dim=1), model.config.time_scale
            of_gaps = model.next_gap(output.features[:, :-1], ids[:, 1:]).log_prob(gaps / scale)
            when -= (of_gaps - (gaps > 0) * math.log(scale)).sum().item()  # densities are per second
    return what, when, count


@pytest.mark.parametrize("chunk", [7, 4096])
@pytest.mark.parametrize("by_step", [False, True])
def test_what_and_when_are_the_sums_by_hand(chunk: int, by_step: bool) -> None:
    model, text = tiny(time_components=3, time_scale=6.0), corpus(times=True)
    step = LiquidStep(model) if by_step else None
    found = evaluate(model, text, eos_token_id=EOS, chunk=chunk, step=step)
    what, when, count = by_hand(model, text)
    assert found.nats == pytest.approx(what, rel=1e-6) and found.time_nats == pytest.approx(when, rel=1e-6)
    assert (found.tokens, found.bytes, found.events) == (count, 123, 9)
    assert found.bits_per_byte == pytest.approx(what / math.log(2) / 123, rel=1e-6)


def test_without_times_nothing_is_said_of_when() -> None:
    model, text = tiny(), corpus(times=False)
    model.train()
    found = evaluate(model, text, eos_token_id=EOS)
    assert found.time_nats is None and found.nats == pytest.approx(by_hand(model.eval(), text)[0], rel=1e-6)
    assert "time_nats" not in found.summary()


def test_the_mode_is_left_as_it_was() -> None:
    model = tiny()
    for training in (True, False):
        evaluate(model.train(training), corpus(times=False), eos_token_id=EOS)
        assert model.training is training


def test_every_part_is_left_in_its_mode_when_it_fails() -> None:
    model = tiny().train()
    model.blocks[0].eval()
    before = [part.training for part in model.modules()]

    def fail(_: int) -> None:
        assert not model.training
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(model, corpus(times=False), eos_token_id=EOS, progress=fail)
    assert [part.training for part in model.modules()] == before
    evaluate(model, corpus(times=False), eos_token_id=EOS)
    assert [part.training for part in model.modules()] == before


class Streamed:
    """Tokens of which only so many may be asked for at a time."""

    def __init__(self, tokens: np.ndarray, most: int):
        self.tokens, self.most, self.size = tokens, most, tokens.size

    def __getitem__(self, part: slice) -> np.ndarray:
        assert part.stop - part.start <= self.most
        return self.tokens[part]


@pytest.mark.parametrize("chunk", [7, 10, 25])
def test_no_more_is_held_than_a_chunk(chunk: int) -> None:
    text = corpus(times=True)
    parts = (Streamed(one, chunk + 1) for one in (text.tokens, text.times))
    streamed = TokenCorpus(next(parts), text.starts, 123, next(parts), 9)
    model = tiny(time_components=3)
    found = evaluate(model, streamed, eos_token_id=EOS, chunk=chunk)
    whole = evaluate(model, text, eos_token_id=EOS)
    assert (found.nats, found.time_nats) == pytest.approx((whole.nats, whole.time_nats), rel=1e-6)
    assert found.tokens == whole.tokens
