"""The kernel of one token per row against the same step in torch."""

import pytest
import torch
from helpers import error, randomise, state_error
from native import needs_kernels

from liquidlm.errors import LiquidError
from liquidlm.model.config import LiquidConfig
from liquidlm.model.native_step import NativeStep
from liquidlm.model.pretrained import LiquidTextGenerationModel
from liquidlm.model.step import LiquidStep
from liquidlm.model.torch_step import TorchStep

pytestmark = needs_kernels

SIZES = {"vocab_size": 71, "embedding_dim": 12, "latent_dim": 8, "hidden_size": 16, "ngram_rows": 40}
SMALL = {"flow_hidden_dim": 8, "num_flows": 2, "num_heads": 2, "chunk_size": 8}
ODD = {"hidden_size": 30, "num_heads": 6, "intermediate_size": 43, "vocab_size": 37, "ngram_rows": 0}
KINDS = {"mixer_types": ["time", "nonlinear", "memory", "nonlinear"]}
TIMED = {"time_scale": 3.0, "memory_scale": 50.0, "time_components": 4}
OPTIONS = [
    {},
    ODD,
    {"conv_width": 1},
    {"conv_width": 2, "num_writes": 3},
    KINDS,
    KINDS | ODD,
    TIMED,
    KINDS | TIMED,
]
GAPS = (1.0, 0.0, 2.7, 1e6, 1e30)


def build(**options):
    torch.manual_seed(0)
    config = LiquidConfig(**(SIZES | SMALL | options))
    return randomise(LiquidTextGenerationModel(config)).eval()


def rounded(parts: TorchStep, weights: str) -> TorchStep:
    """The parts with every matrix rounded as the kernel holds it."""

    def change(x):
        if weights == "bf16":
            return x.bfloat16().float()
        scale = x.abs().amax(0).clamp(min=1e-30) / 127
        return (x / scale).round() * scale

    if weights == "float32":
        return parts
    parts.output = change(parts.output)
    if parts.ngrams is not None:
        parts.ngrams.proj = change(parts.ngrams.proj)
    for block in parts.blocks:
        cell, hidden = block.cell, len(block.cell.leak)
        encode, synapse = cell.weight.split([cell.sizes[0] + 1, cell.sizes[2]], 1)
        if cell.of_state is None:
            encode = change(encode)
        else:
            both = change(torch.cat([torch.nn.functional.pad(cell.of_state, (0, 1)), encode]))
            cell.of_state, encode = both[:hidden, :-1].contiguous(), both[hidden:]
        both = change(torch.cat([synapse, cell.of_encoder]))
        cell.weight, cell.of_encoder = torch.cat([encode, both[:hidden]], 1), both[hidden:].contiguous()
        for name in ("out", "gate_up", "down"):
            setattr(block, name, change(getattr(block, name)))
        if block.memory is not None:
            block.memory.weight = change(block.memory.weight)
    return parts


def differences(model, weights="float32", rows=3, gaps=GAPS):
    """The largest difference of logits, features and states over a few tokens. Both round in float32."""
    native, own = LiquidStep(model, weights=weights), LiquidStep(model)
    assert isinstance(native.form, NativeStep)
    own.form = rounded(TorchStep(model), weights)
    ids = torch.randint(3, 37, (rows, 8), generator=torch.Generator().manual_seed(0))
    mine = model(ids).state
    theirs, worst = mine.copy(), 0.0
    for i, gap in enumerate(gaps):
        (logits, features), (whole, of_time) = (
            step.read(ids[:, i], state, gap) for step, state in ((native, mine), (own, theirs))
        )
        worst = max(worst, error(logits, whole))
        if of_time is not None:
            worst = max(worst, error(features, of_time))
    return max(worst, *(state_error(a, b) for a, b in zip(mine.states(), theirs.states(), strict=True)))


@pytest.mark.parametrize("rows", [1, 3, 32])
@pytest.mark.parametrize("options", OPTIONS)
def test_a_step_in_float32_is_that_of_torch(options, rows):
    assert differences(build(**options), rows=rows) < 2e-5


@pytest.mark.parametrize("weights", ["bf16", "int8"])
@pytest.mark.parametrize("options", OPTIONS)
def test_narrow_weights_are_those_of_torch_rounded(options, weights):
    assert differences(build(**options), weights, rows=5) < 5e-5


def test_two_threads_give_the_same_bits_as_one(monkeypatch):
    model, ids = build(hidden_size=256, vocab_size=700, **KINDS), torch.arange(3, 35).view(16, 2)
    results = []
    for threads in (1, 2, 5):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        state = model(ids).state
        results.append((LiquidStep(model)(ids[:, 0], state), state.states()[2].memory))
    assert all(torch.equal(x, y) for other in results[1:] for x, y in zip(results[0], other, strict=True))


def test_the_given_states_are_not_changed():
    model, ids = build(), torch.arange(3, 15).view(2, 6)
    state = model(ids).state
    before = [part.clone() for one in state.states() for part in one.moving().values()]
    kept = state.copy()
    LiquidStep(model)(ids[:, 0], state)
    assert all(
        torch.equal(x, y)
        for x, y in zip(before, (p for one in kept.states() for p in one.moving().values()), strict=True)
    )


@pytest.mark.parametrize(
    "other", [{"hidden_size": 24}, {"conv_width": 3}, {"num_heads": 1}, {"ngram_rows": 0}]
)
def test_a_state_of_another_model(other):
    with pytest.raises(LiquidError, match="does not fit"):
        LiquidStep(build())(torch.tensor([5]), build(**other)(torch.tensor([[5]])).state)


@pytest.mark.parametrize("token", [-1, 71])
def test_an_id_outside_the_vocabulary(token):
    model = build()
    state = model(torch.tensor([[5]])).state
    with pytest.raises(IndexError, match="outside 0…70"):
        LiquidStep(model)(torch.tensor([token]), state)


def test_float64_and_mixers_of_ones_own_stay_with_torch():
    assert isinstance(LiquidStep(build().double(), weights="int8").form, TorchStep)
