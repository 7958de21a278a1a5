"""A new kind of block: a mixer and its name in MIXERS are all it takes."""

import pytest
import torch
import torch.nn.functional as F
from helpers import error, randomise, state_error

from liquidlm.model.config import LiquidConfig
from liquidlm.model.mixers import MIXERS
from liquidlm.model.pretrained import LiquidTextGenerationModel
from liquidlm.model.step import LiquidStep
from liquidlm.nn.cells import TimeMixer

SIZES = {"vocab_size": 64, "embedding_dim": 12, "latent_dim": 8, "hidden_size": 16, "num_hidden_layers": 3}


class GatedMixer(TimeMixer):
    """The time cell is driven by u ⊙ silu(gate u)."""

    def __init__(self, hidden_size: int, dropout_rate: float):
        super().__init__(hidden_size, dropout_rate)
        self.gate = torch.nn.Linear(hidden_size, hidden_size)

    def context(self, u, events, state):
        return u * F.silu(self.gate(u)), None


@pytest.fixture
def model(monkeypatch):
    monkeypatch.setitem(MIXERS, "gated", lambda config: GatedMixer(config.hidden_size, config.dropout_rate))
    torch.manual_seed(0)
    config = LiquidConfig(**SIZES, mixer_types=["gated", "memory", "gated"], memory_scale=5.0)
    return randomise(LiquidTextGenerationModel(config)).double().eval()


def test_a_new_kind_trains_and_reads_in_parts(model):
    ids = torch.randint(3, 64, (2, 20), generator=torch.Generator().manual_seed(0))
    model.train()(ids, labels=ids).loss.backward()
    gates = [block.mixer.gate.weight.grad.abs().max() for block in (model.blocks[0], model.blocks[2])]
    assert min(gates) > 0
    model.eval()
    whole, first = model(ids), model(ids[:, :12])
    rest = model(ids[:, 12:], past_key_values=first.state)
    assert error(rest.logits, whole.logits[:, 12:]) < 1e-11


def test_a_new_kind_writes(model):
    ids = torch.randint(3, 64, (2, 12), generator=torch.Generator().manual_seed(0))
    mine, theirs = (model(ids).state for _ in range(2))
    for step, gap in zip([LiquidStep(model)] * 3, (0.0, 1.0, 30.0), strict=True):
        logits = step(ids[:, 0], mine, gap)
        times = theirs.last_time[:, None] + gap
        whole = model(ids[:, :1], timestamps=times, past_key_values=theirs)
        assert error(logits, whole.logits[:, -1]) < 1e-11
    assert max(state_error(a, b) for a, b in zip(mine.states(), theirs.states(), strict=True)) < 1e-11
    written = model.generate(ids, max_new_tokens=4, do_sample=False, pad_token_id=1, eos_token_id=None)
    assert written.shape == (2, 16)
