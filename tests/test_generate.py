"""Reading into a state and writing on from it."""

import pytest
import torch
from helpers import error, event_times, randomise, state_error
from small_model import SIZES, SMALL

from liquidlm.errors import LiquidError
from liquidlm.inference.generate import read, write
from liquidlm.inference.sampler import Sampler, processors
from liquidlm.inference.sampling import PENALISED, Sampling
from liquidlm.model.config import LiquidConfig
from liquidlm.model.folded import FoldedEmbedding
from liquidlm.model.pretrained import LiquidTextGenerationModel

GREEDY = Sampling(temperature=0.0)


@pytest.fixture(scope="module")
def model():
    """Random parameters. float32, as a user's: `read` hands out float32 logits."""
    torch.manual_seed(0)
    return randomise(LiquidTextGenerationModel(LiquidConfig(**SIZES, **SMALL, eos_token_id=None))).eval()


def tokens(batch=2, length=20, seed=0):
    return torch.randint(3, 64, (batch, length), generator=torch.Generator().manual_seed(seed))


def written(model, sampling, new=10, ids=None, **options):
    """(batch, new) ids drawn after reading `ids`, and the state."""
    state = model.new_state()
    logits = read(model, tokens() if ids is None else ids, state)
    return torch.stack(list(write(model, logits, state, sampling, new, **options)), 1), state


def states_error(a, b):
    return max(state_error(p, q) for p, q in zip(a.states(), b.states(), strict=True))


@pytest.mark.parametrize("chunk", [1, 7, 20, 100])
def test_read_in_chunks_is_one_forward(model, chunk):
    model, ids, times, reported = model.double(), tokens(), event_times(2, 20), []
    state = model.new_state()
    logits = read(model, ids, state, times, chunk=chunk, progress=reported.append)
    whole = model(ids, timestamps=times)
    model.float()
    assert error(logits.double(), whole.logits[:, -1]) < 1e-6 and logits.dtype == torch.float32
    assert states_error(state, whole.state) < 1e-12
    assert reported == [min(first + chunk, 20) for first in range(0, 20, chunk)]
    with pytest.raises(LiquidError, match="nothing to read"):
        read(model, ids[:, :0], state)


@pytest.mark.parametrize("folded", [False, True])
def test_greedy_is_that_of_transformers(model, folded):
    ids, state = tokens(), model.new_state()
    table = FoldedEmbedding(model) if folded else None
    mine = torch.stack(list(write(model, read(model, ids, state, table=table), state, GREEDY, 15)), 1)
    theirs = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=15)
    assert torch.equal(mine, theirs[:, 20:]) and len(mine.unique()) > 5
    assert torch.equal(mine, written(model, Sampling(temperature=3.0, top_k=1, top_p=1.0), 15)[0])
    assert torch.equal(mine, written(model, Sampling(temperature=3.0, top_p=1e-6), 15)[0])


@pytest.mark.parametrize(
    ("sampling", "change"),
    [
        ({"temperature": 1.0, "top_p": 1.0}, lambda p: p),
        ({"temperature": 2.0, "top_p": 1.0}, lambda p: p.sqrt()),
        ({"temperature": 1.0, "top_k": 2, "top_p": 1.0}, lambda p: p * torch.tensor([1, 1, 0, 0])),
        ({"temperature": 1.0, "top_p": 0.75}, lambda p: p * torch.tensor([1, 1, 0, 0])),
        (
            {"temperature": 1.0, "top_p": 1.0, "repetition_penalty": 2.0},
            lambda p: p ** torch.tensor([2, 1, 1, 1]),
        ),
    ],
    ids=lambda given: str(given) if isinstance(given, dict) else "",
)
def test_draws_have_the_distribution(model, sampling, change):
    """20,000 rows with the same four probabilities; the penalty falls on the one in the context."""
    p, rows = torch.tensor([0.5, 0.3, 0.15, 0.05]), 20_000
    context = torch.zeros(rows, 1, dtype=torch.long)
    draws = write(
        model, p.log().expand(rows, 4), model.new_state(), Sampling(**sampling, seed=0), 1, context=context
    )
    found = next(draws).bincount(minlength=4) / rows
    expected = change(p) / change(p).sum()
    assert error(found, expected) < 0.015 and torch.equal(found == 0, expected == 0)


def test_draws_are_seeded(model):
    before = torch.get_rng_state()
    first = written(model, Sampling(seed=1))[0]
    assert torch.equal(first, written(model, Sampling(seed=1))[0])
    assert not torch.equal(first, written(model, Sampling(seed=2))[0])
    assert not torch.equal(written(model, Sampling())[0], written(model, Sampling())[0])
    assert torch.equal(before, torch.get_rng_state())  # torch's own generator is not touched


def test_it_stops_once_every_row_has(model):
    free = written(model, GREEDY, 15)[0]
    stops = {int(free[0, 3]), int(free[1, 6])}
    ends = [next(i for i in range(15) if int(row[i]) in stops) for row in free]
    stopped = written(model, GREEDY, 15, stop=stops)[0]
    assert max(ends) < 14 and torch.equal(stopped, free[:, : max(ends) + 1])
    assert written(model, GREEDY, 4)[0].shape == (2, 4)


def test_the_last_token_is_still_to_be_read(model):
    ids = tokens()
    drawn, state = written(model, Sampling(seed=0), 10, ids)
    assert state.get_seq_length() == 29
    logits = read(model, drawn[:, -1:], state)
    whole = model.new_state()
    assert error(logits, read(model, torch.cat([ids, drawn], 1), whole)) < 1e-4
    assert states_error(state, whole) < 1e-4


def test_a_text_may_be_left_at_any_token(model):
    state = model.new_state()
    drawing = write(model, read(model, tokens(), state), state, GREEDY, 100)
    first = [next(drawing) for _ in range(3)]
    drawing.close()
    assert state.get_seq_length() == 22
    later = list(write(model, read(model, first[-1][:, None], state), state, GREEDY, 4))
    assert torch.equal(torch.stack(first + later, 1), written(model, GREEDY, 7)[0])


def test_the_repetition_penalty_lowers_repeats(model):
    ids = tokens()
    plain = written(model, Sampling(seed=0, temperature=0.2), 30, ids, context=ids)[0]
    penalised = written(
        model, Sampling(seed=0, temperature=0.2, repetition_penalty=5.0), 30, ids, context=ids
    )[0]

    def repeats(drawn):
        return sum(
            int(row[i]) in row[:i].tolist() for row in torch.cat([ids, drawn], 1) for i in range(20, 50)
        )

    assert repeats(penalised) < repeats(plain) / 2
    theirs = model.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=10, repetition_penalty=1.5
    )
    mine = written(model, Sampling(temperature=0.0, repetition_penalty=1.5), 10, ids, context=ids)[0]
    assert torch.equal(mine, theirs[:, 20:])
    assert written(model, Sampling(temperature=0.0, repetition_penalty=1.5), 3, ids)[0].shape == (
        2,
        3,
    )  # no context


def test_the_state_has_one_size(model):
    def size(length):
        state = model.new_state()
        read(model, tokens(1, length), state, chunk=512)
        stored = sum(
            part.untyped_storage().nbytes() for s in state.states() for part in s if part is not None
        )
        return state.nbytes, stored

    sizes = [size(length) for length in (1, 10, 2000)]
    assert sizes[0] == sizes[1] == sizes[2]
    drawn, state = written(model, GREEDY, 5, tokens(1, 10))
    assert state.nbytes == sizes[0][0] and drawn.shape == (1, 5)


def test_copies_of_a_state_go_their_own_ways(model):
    state = model.new_state()
    logits = read(model, tokens(), state)
    before = state.tensors()
    copy = state.copy()
    one = torch.stack(list(write(model, logits, copy, Sampling(seed=1), 10)), 1)
    assert copy.get_seq_length() == 29 and state.get_seq_length() == 20
    assert all(torch.equal(part, before[name]) for name, part in state.tensors().items())
    assert torch.equal(one, torch.stack(list(write(model, logits, state, Sampling(seed=1), 10)), 1))


@pytest.mark.parametrize(
    "bad",
    [{"temperature": -0.1}, {"top_k": -1}, {"top_p": 0.0}, {"top_p": 1.1}, {"repetition_penalty": 0.0}]
    + [{name: float("nan")} for name in ("temperature", "top_p", "repetition_penalty")],
    ids=str,
)
def test_bad_sampling_is_named(bad):
    with pytest.raises(LiquidError, match=next(iter(bad))):
        Sampling(**bad)


def test_nothing_to_write_is_named(model):
    with pytest.raises(LiquidError, match="max_new_tokens must be at least 1, not 0"):
        written(model, GREEDY, 0)


def test_top_k_comes_before_top_p():
    logits = torch.tensor([[0.4, 0.3, 0.2, 0.1]]).log()
    scores = processors(Sampling(temperature=1.0, top_k=3, top_p=0.75))(torch.zeros(1, 0).long(), logits)
    assert scores.isfinite().tolist() == [[True, True, False, False]]  # 0.7 of all, but 0.78 of three


def test_the_penalty_is_of_the_last_tokens():
    """Of a context longer than it looks back, and of what is written beyond."""
    sampling, logits = Sampling(temperature=0.0, repetition_penalty=2.0), torch.zeros(1, 10)
    logits[0, [5, 7, 9]] = torch.tensor([1.0, 1.5, 0.9])
    context = torch.tensor([[5] * 10 + [7] * PENALISED])
    draw = Sampler(sampling, 2000, logits, context, ())
    assert draw(logits).tolist() == [5] and draw(logits).tolist() == [9]
    for _ in range(PENALISED):
        assert draw(logits).tolist() in ([9], [5], [7])
    assert draw.context.shape == (1, PENALISED)
