"""The peers: of one size with ours, and real language models."""

import math

import pytest
import torch

from benchmarks.peers import MODELS, OURS, STEPWISE, WIDTH, build, parameters
from benchmarks.training_step import MARGIN, TrainingStep, random_ids


def built(name: str, vocab: int):
    if name in STEPWISE:
        pytest.importorskip("ncps", reason="ncps is not installed")
    return build(name, vocab, 16)


@pytest.mark.parametrize("name", MODELS)
def test_a_peer_has_our_size_and_knows_nothing_yet(name):
    vocab = 261
    model = built(name, vocab).eval()
    own = parameters(build(OURS, vocab, 16))
    assert abs(parameters(model) / own - 1) < 0.05
    with torch.no_grad():
        loss = model.loss(random_ids(vocab, 2, 16)).item()
    assert math.log(vocab) - 1 < loss < math.log(vocab) + MARGIN


@pytest.mark.parametrize("name", [name for name in MODELS if name != "ltc"])
def test_a_peer_has_our_size_with_a_large_vocabulary(name):
    """ltc, slow to build, has the embedding and output layer of lstm and cfc."""
    with torch.device("meta"):
        model, own = built(name, 8000), build(OURS, 8000, 16)
    assert abs(parameters(model) / parameters(own) - 1) < 0.05


@pytest.mark.parametrize("name", [name for name in MODELS if name != "ltc"])
def test_tied_the_table_is_the_output_layer(name):
    """One table less, and still a model that knows nothing yet."""
    vocab = 261
    if name in STEPWISE:
        pytest.importorskip("ncps", reason="ncps is not installed")
    model, untied = build(name, vocab, 16, tied=True).eval(), built(name, vocab)
    assert parameters(untied) - parameters(model) == vocab * WIDTH
    with torch.no_grad():
        loss = model.loss(random_ids(vocab, 2, 16)).item()
    # Gemma's makers begin with what was read as the first guess.
    assert math.log(vocab) - 1 < loss < math.log(vocab) + MARGIN + (name == "recurrent_gemma")


@pytest.mark.parametrize("name", [name for name in MODELS if name != "ltc"])
def test_the_loss_is_that_of_the_next_token(name):
    """The probabilities of all possible last tokens add up to 1: what is predicted is not also read."""
    vocab, length = 8, 6
    model, start = built(name, vocab).eval(), random_ids(vocab, 1, length)
    with torch.no_grad():
        before = (length - 2) * model.loss(start[:, :-1])
        last = [
            (length - 1) * model.loss(torch.cat([start[:, :-1], torch.tensor([[token]])], 1)) - before
            for token in range(vocab)
        ]
    probabilities = torch.stack(last).neg().exp()
    assert probabilities.sum().item() == pytest.approx(1, abs=1e-4)
    assert probabilities.std() > 1e-4


@pytest.mark.parametrize("name", [name for name in MODELS if name not in STEPWISE])
def test_a_peer_learns(name):
    step = TrainingStep(name, 261, random_ids(261, 2, 16), bf16=False)
    before = step.model.loss(step.ids).item()
    for _ in range(3):
        step()
    assert step.model.loss(step.ids).item() < before
