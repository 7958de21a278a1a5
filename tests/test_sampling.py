"""Which tokens may be written, and settings of sampling that cannot be."""

import math

import numpy as np
import pytest
import torch
from helpers import randomise

from liquidlm import (
    LEDTokenizerWrapper,
    LiquidConfig,
    LiquidError,
    LiquidTextGenerationModel,
    generate_timestamps,
)
from liquidlm.inference.generate import read_output, write, write_timed
from liquidlm.inference.sampler import Sampler, draw
from liquidlm.inference.sampling import COLDEST, Sampling
from liquidlm.inference.saving import load_model, save_model
from liquidlm.runtime.seeds import generator_seed
from liquidlm.serve.batch import Row, draw_tokens
from liquidlm.serve.jobs import Job
from liquidlm.serve.limits import Limits
from liquidlm.serve.model_source import ModelSource
from liquidlm.serve.prefixes import HashedPrompt

TOKENIZER = LEDTokenizerWrapper.bytes()
KNOWN, SURPLUS = TOKENIZER.vocab_size, 11
IDS = torch.arange(12)[None] + 100
NEW = 12
LOGITS = torch.zeros(4, 9)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model with more rows than there are tokens, which would say nothing else."""
    torch.manual_seed(0)
    sizes = {"embedding_dim": 12, "latent_dim": 8, "hidden_size": 16, "flow_hidden_dim": 8, "num_flows": 2}
    more = {"num_hidden_layers": 2, "ngram_rows": 0, "time_components": 2, "eos_token_id": None}
    model = LiquidTextGenerationModel(LiquidConfig(vocab_size=KNOWN + SURPLUS, **sizes, **more))
    randomise(model)
    with torch.no_grad():
        model.output_proj.weight[KNOWN:] *= 100
    assert int(model.eval()(IDS).logits[0, -1].argmax()) >= KNOWN
    out = tmp_path_factory.mktemp("surplus") / "model"
    out.mkdir()
    save_model(out, model, TOKENIZER)
    return out


@pytest.mark.parametrize("how", [{"do_sample": False}, {"do_sample": True}, {"num_beams": 3}], ids=str)
@pytest.mark.parametrize("load", ["by_us", "by_transformers"])
def test_generate_writes_what_can_be_decoded(folder, how, load):
    model = load_model(folder)[0]
    if load == "by_transformers":
        model = LiquidTextGenerationModel.from_pretrained(folder)
    written = model.generate(IDS, max_new_tokens=NEW, **how)
    assert written.max() < KNOWN
    TOKENIZER.decode(written[0])


@pytest.mark.parametrize("sampling", [Sampling(temperature=0.0), Sampling(1.5, top_p=1.0), Sampling(top_k=3)])
def test_our_own_loops_do(folder, sampling):
    model, _ = load_model(folder)
    state = model.new_state()
    output = read_output(model, IDS, state)
    tokens = list(write(model, output.logits[:, -1].float(), state.copy(), sampling, NEW))
    tokens += [token for token, _ in write_timed(model, output, state, sampling, NEW)]
    assert max(int(token) for token in tokens) < KNOWN


def test_the_server_does_and_tells_of_no_other_probabilities(folder):
    from liquidlm.inference.generate import suppressed

    model = LiquidTextGenerationModel.from_pretrained(folder)
    model.generation_config.suppress_tokens = [104]
    ModelSource("", "a model", Limits()).serving(model, TOKENIZER)
    assert suppressed(model) == [104, *range(KNOWN, KNOWN + SURPLUS)]
    logits = torch.zeros(1, KNOWN + SURPLUS)
    logits[:, KNOWN:] = 50.0
    row = Row(
        Job(HashedPrompt(IDS[0].numpy()), Sampling(seed=0), NEW, likeliest=500), logits, suppressed(model)
    )
    for _ in range(NEW):
        (token,) = draw_tokens([row], model, logits, None, [0.0])
        assert token is not None
        assert token.id < KNOWN and token.id != 104
        assert token.logprob == pytest.approx(-math.log(KNOWN - 1), rel=1e-5)
        assert len(token.likeliest) == KNOWN - 1


def test_a_model_without_surplus_is_left_alone():
    model = LiquidTextGenerationModel(KNOWN, 12, 8, 16, num_hidden_layers=1)
    ModelSource("", "a model", Limits()).serving(model, TOKENIZER)
    assert not model.generation_config.suppress_tokens


def drawn(logits, **how) -> int:
    sampling = Sampling(**{"top_p": 1.0, "seed": 0} | how)
    return int(Sampler(sampling, 1, logits, torch.tensor([[0, 1, 2, 3]]), ())(logits))


@pytest.mark.parametrize(
    "how",
    [
        *({"temperature": t} for t in (0, 1e-45, 1e-320, 5e-324, 1e-38, 1e-5, COLDEST, np.float32(1e-45))),
        *({"temperature": 1.0, "top_p": p} for p in (1e-45, 5e-324, 1e-9)),
        {"temperature": 1.0, "top_p": 5e-324, "repetition_penalty": 1e-3},
    ],
    ids=str,
)
def test_settings_that_underflow_take_the_likeliest(how, as_users_run):
    for logits in ([[1.0, 90.0, -80.0, 89.0]], [[1e-3, 2e-3, 0.0, 1e-3]]):
        assert drawn(torch.tensor(logits), **how) == 1


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        *(("temperature", x) for x in (-1e-45, math.nan, math.inf, True, "0.8", None, 1j, [1.0])),
        *(("top_k", x) for x in (-1, 1.5, 2.0, math.nan, True, "3", None)),
        *(("top_p", x) for x in (0, -1e-45, 1.0000001, math.nan, math.inf, True, "1", None)),
        *(("repetition_penalty", x) for x in (0, -1, 1e-45, 1e39, math.nan, math.inf, True, "1", None)),
        *(("seed", x) for x in (1.0, math.nan, True, "1", 2**63, -(2**63))),
    ],
)
def test_settings_that_cannot_be_are_refused(name, wrong, as_users_run):
    with pytest.raises(LiquidError, match=f"^{name} must be "):
        Sampling(**{name: wrong})


def test_numbers_of_other_packages_are_numbers(as_users_run):
    Sampling(np.float32(0.5), np.int64(3), np.float64(0.9), np.float32(1.1), np.int64(4))


def test_seeds_are_apart():
    """torch's generator takes 32 bits of a seed; several texts of one seed are not those of the next."""
    seeds = [1, 1 + 2**32, 1 - 2**32, -1, 2**63 - 1, 2, 2 + 2**32]
    drawn = [tuple(Sampler(Sampling(seed=one), 1, LOGITS, None, ()).chance().tolist()) for one in seeds]
    assert len(set(drawn)) == len(seeds)
    every = {generator_seed(seed, number) for seed in (1, 2, 3, 2**40) for number in range(16)}
    assert len(every) == 64 and all(0 <= one < 2**32 for one in every)
    times = [tuple(generate_timestamps(1, 9, "poisson", seed=one)[0].tolist()) for one in (5, 5 + 2**32)]
    assert times[0] != times[1]


def test_penalties_count_what_was_drawn():
    """The logits of OpenAI's formula: biases added, penalties subtracted; a bias is no penalty."""
    how = Sampling(0.0, frequency_penalty=0.5, presence_penalty=1.0, logit_bias=((2, 4.0), (5, -100.0)))
    logits = torch.tensor([[3.0, 0.0, 0.0, 2.9, 0.0, 50.0]])
    sampler = Sampler(how, 9, logits, None, ())
    counts, biased = torch.zeros(6), logits[0] + torch.tensor([0, 0, 4.0, 0, 0, -100.0])
    drawn = []
    for _ in range(8):
        expected = biased - 0.5 * counts - (counts > 0).float()
        assert torch.allclose(sampler.shaped(logits)[0], expected)
        drawn.append(int(sampler(logits)))
        assert drawn[-1] == int(expected.argmax())
        counts[drawn[-1]] += 1
    assert drawn[:3] == [2, 0, 3]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("min_p", [0.1, 0.5, 1.0])
def test_min_p_keeps_what_is_likely_beside_the_likeliest(temperature, min_p):
    logits = torch.randn(1, 40, generator=torch.Generator().manual_seed(3)).double() * 2
    how = Sampling(temperature, top_p=1.0, min_p=min_p, seed=1)
    shares = (logits / temperature).softmax(-1)
    kept = Sampler(how, 1, logits, None, ()).shaped(logits).isfinite()
    assert torch.equal(kept, shares >= min_p * shares.max() * (1 - 1e-12)) and 0 < kept.sum() < 40
    samplers = [
        Sampler(Sampling(temperature, 0, 1.0, min_p=min_p, seed=i), 1, LOGITS[:1], None, ())
        for i in range(60)
    ]
    tokens = draw(samplers, logits.float().expand(60, 40).contiguous())
    assert kept[0][tokens].all()


def test_rows_with_and_without_penalties_do_not_meet():
    plain = [Sampler(Sampling(seed=i), 9, LOGITS[:1], None, ()) for i in range(3)]
    mixed = [Sampler(Sampling(seed=i), 9, LOGITS[:1], None, ()) for i in (0, 2)]
    odd = Sampler(Sampling(seed=1, presence_penalty=2.0, min_p=0.2), 9, LOGITS[:1], None, ())
    for step in range(4):
        logits = torch.randn(3, 9, generator=torch.Generator().manual_seed(step))
        alone = draw(plain, logits)
        together = draw([mixed[0], odd, mixed[1]], logits)
        assert together[0] == alone[0] and together[2] == alone[2]


@pytest.mark.parametrize(
    "wrong",
    [{"min_p": 1.5}, {"min_p": -0.1}, {"frequency_penalty": math.nan}, {"presence_penalty": math.inf}],
)
def test_new_settings_out_of_range(wrong):
    with pytest.raises(LiquidError, match=next(iter(wrong))):
        Sampling(**wrong)
    with pytest.raises(LiquidError, match="there is no token 9"):
        Sampler(Sampling(logit_bias=((9, 1.0),)), 1, LOGITS, None, ())
