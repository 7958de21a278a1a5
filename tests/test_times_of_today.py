"""Times since 1970, in every type, at every entry: the gaps between them are kept exactly."""

import logging

import numpy as np
import pytest
import torch
import torch.distributed as dist
from helpers import HIDDEN, error, mixer, normal, randomise, run
from transformers.utils.logging import warning_once

from liquidlm import ImprovedLiquidTimeCell, LEDTokenizerWrapper, LiquidConfig, LiquidError
from liquidlm import LiquidTextGenerationModel as Model
from liquidlm.inference.evaluate import evaluate
from liquidlm.inference.export import ExportedStep
from liquidlm.inference.generate import read_output, write_timed
from liquidlm.inference.inspection import examine
from liquidlm.inference.sampling import Sampling
from liquidlm.inference.surprise import SurpriseReader
from liquidlm.model.step import LiquidStep
from liquidlm.nn.cells import AsyncLiquidCell, NonlinearMixer, TimeMixer
from liquidlm.nn.events import Events
from liquidlm.nn.ode import integrate
from liquidlm.nn.timestamps import elapsed, in_float64, next_gaps
from liquidlm.serve.jobs import Job
from liquidlm.serve.prefill import Prefill
from liquidlm.serve.prefixes import HashedPrompt, PrefixCache
from liquidlm.text.batches import StreamBatches
from liquidlm.text.corpus import Document
from liquidlm.text.token_corpus import TokenCorpus
from liquidlm.text.tokenization import tokenize_documents
from liquidlm.training.sequence_parallel import sequence_parallel

TODAY = 1_700_000_000
STEPS = torch.tensor([0, 1, 1, 3, 10, 10, 11, 40, 41, 43, 44, 44])
TOKENIZER = LEDTokenizerWrapper.bytes()
IDS = torch.arange(12)[None] + 100
GREEDY = Sampling(temperature=0.0)


class Clock:
    """The same gaps, today and from 0 on: in the least unit that a type can tell apart today."""

    def __init__(self, dtype: torch.dtype):
        self.unit = 128.0 if dtype == torch.float32 else 1.0
        self.times = (TODAY + self.unit * STEPS.double()).to(dtype)[None]
        self.early = (self.unit * STEPS).double()[None]

    def model(self, head: bool = True) -> Model:
        torch.manual_seed(0)
        sizes = {"vocab_size": TOKENIZER.vocab_size, "embedding_dim": 12, "latent_dim": 8, "hidden_size": 16}
        small = {"flow_hidden_dim": 8, "num_flows": 2, "num_hidden_layers": 2, "num_heads": 2}
        times = {"time_scale": self.unit, "time_components": 2 if head else 0}
        config = LiquidConfig(**sizes, **small, **times, ngram_rows=0)
        return randomise(Model(config)).eval()


@pytest.fixture(params=[torch.int32, torch.int64, torch.float32, torch.float64], ids=str)
def clock(request):
    return Clock(request.param)


def test_gaps_and_events(clock):
    expected = STEPS.diff().double()
    assert torch.equal(elapsed(clock.times, time_scale=clock.unit, dtype=torch.float64)[0, 1:], expected)
    last = torch.tensor([TODAY - 5.0 * clock.unit], dtype=torch.float64)
    events = Events.build(clock.times, last, length=12, time_scale=clock.unit)
    assert torch.equal(events.gap[0], torch.cat([torch.tensor([5.0]), expected.float()]))
    assert events.last_time.item() == TODAY + 44 * clock.unit
    counted = torch.ones(1, 11, dtype=torch.bool)
    for later in (clock.times, clock.times.double()):
        assert torch.equal(
            next_gaps(clock.times[:, :-1], later[:, 1:], counted, clock.unit)[0], expected.float()
        )


def test_the_model_and_its_losses(clock):
    model = clock.model()
    ours = model(IDS, timestamps=clock.times, labels=IDS)
    theirs = model(IDS, timestamps=clock.early, labels=IDS)
    assert torch.equal(ours.logits, theirs.logits)
    assert torch.equal(ours.time_loss, theirs.time_loss) and torch.equal(ours.loss, theirs.loss)
    body = [model.model(IDS, timestamps=times).last_hidden_state for times in (clock.times, clock.early)]
    assert torch.equal(*body)


@pytest.mark.parametrize(
    "options", [{}, {"num_beams": 2}, {"use_cache": False}, {"prefill_chunk_size": 5}], ids=str
)
def test_generate_goes_on_by_the_gap_that_counts_as_one(clock, options):
    model, seen = clock.model(head=False), []
    model.register_forward_pre_hook(lambda _, args, given: seen.append(given["timestamps"]), with_kwargs=True)
    how = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None, **options}
    ours = model.generate(IDS, timestamps=clock.times, **how)
    end = TODAY + (44 + 5) * clock.unit
    assert seen[-1].dtype == torch.float64 and seen[-1][0, -1].item() == end
    assert torch.equal(ours, model.generate(IDS, timestamps=clock.early, **how))


def test_generate_draws_times(clock):
    model = clock.model()
    how = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None, "return_dict_in_generate": True}
    ours, theirs = (model.generate(IDS, timestamps=times, **how) for times in (clock.times, clock.early))
    assert torch.equal(ours.sequences, theirs.sequences)
    ours, theirs = (torch.stack(found.past_key_values.written_times) for found in (ours, theirs))
    assert ours.dtype == torch.float64 and error(ours - TODAY, theirs) < 1e-6


def test_reading_and_writing(clock):
    model, found = clock.model(), []
    for times, shift in ((clock.times, TODAY), (clock.early, 0)):
        state = model.new_state()
        output = read_output(model, IDS, state, times, chunk=5)
        drawn = [
            (int(token), float(time) - shift) for token, time in write_timed(model, output, state, GREEDY, 5)
        ]
        found.append(drawn)
    assert [token for token, _ in found[0]] == [token for token, _ in found[1]]
    assert [time for _, time in found[0]] == pytest.approx([time for _, time in found[1]], abs=1e-4)


def test_a_steps_gap(clock):
    model = clock.model()
    for time in (clock.times[0, 0], clock.early[0, 0]):
        state = model.new_state()
        model(IDS[:, :1], timestamps=time[None, None], past_key_values=state)
        step = LiquidStep(model)
        for gap in (3.0, torch.tensor(3), torch.tensor([3.0]), torch.tensor([3], dtype=clock.times.dtype)):
            step(IDS[0, :1], state, gap)
        assert state.last_time.item() == time.item() + 12


@pytest.mark.parametrize("kind", [TimeMixer, AsyncLiquidCell, NonlinearMixer])
def test_the_mixers_alone(clock, kind):
    cell, x = mixer(kind, time_scale=clock.unit), normal(1, 12, HIDDEN)
    for h in (None, normal(1, HIDDEN, seed=1)):
        (ours, _), (theirs, _) = run(cell, x, clock.times, h), run(cell, x, clock.early, h)
        assert torch.equal(ours, theirs)
        early, state = run(cell, x[:, :5], clock.times[:, :5], h)
        later, state = run(cell, x[:, 5:], clock.times[:, 5:], state)
        assert error(torch.cat([early, later], 1), theirs) < 1e-12
        assert state.time.item() == TODAY + 44 * clock.unit
    mask = torch.tensor([[1] * 10 + [0] * 2])
    assert torch.equal(run(cell, x, clock.times, None, mask)[0], run(cell, x, clock.early, None, mask)[0])


def test_the_time_cell_alone(clock):
    cell = randomise(ImprovedLiquidTimeCell(HIDDEN, 0.0))
    e, h = (normal(1, HIDDEN, seed=seed, dtype=torch.float32) for seed in (1, 2))
    for solver in ("closed_form", "exponential_euler", "rk4"):
        spans = [times[0, [0, 1, 3]] for times in (clock.times, clock.early)]
        assert torch.equal(*(cell(e, h, span, solver) for span in spans))
    whole = torch.tensor([[1, 2, 0, 3]])
    x = normal(1, 4, HIDDEN, dtype=torch.float32)
    assert torch.equal(cell.scan(x, whole, h), cell.scan(x, whole.float(), h))


def test_an_odes_times(clock):
    span = clock.times[0, [0, 1, 3]]
    moved = integrate(lambda t, e: 0 * e + 1 / clock.unit, torch.zeros(2), span)
    assert moved.tolist() == pytest.approx([3.0, 3.0])
    backwards = torch.tensor([3, 1], dtype=torch.uint8)  # whose difference is 254
    for bad in (
        lambda: integrate(lambda t, e: e, torch.zeros(2), backwards),
        lambda: ImprovedLiquidTimeCell(4)(torch.zeros(1, 4), torch.zeros(1, 4), backwards),
    ):
        with pytest.raises(LiquidError, match=r"increasing|decrease"):
            bad()


def test_an_exported_steps_gap(clock):
    step = ExportedStep(clock.model())
    given = [torch.tensor([3 * clock.unit], dtype=dtype) for dtype in (clock.times.dtype, torch.float32)]
    ours, theirs = (step(IDS[0, :1], gap, *step.zeros(1))[0] for gap in given)
    assert torch.equal(ours, theirs) and ours.dtype == torch.float32


def test_the_servers_prompts(clock):
    model, found = clock.model(), []
    for times in (clock.times, clock.early):
        prompt = HashedPrompt(IDS[0].numpy(), times[0].numpy())
        reading = Prefill(Job(prompt, GREEDY, 1), model, PrefixCache(0), LiquidStep(model))
        with torch.no_grad():
            reading.go_on()
        found.append(reading.logits)
    assert torch.equal(*found)
    same = [HashedPrompt(IDS[0].numpy(), times[0].numpy()) for times in (clock.times, clock.times.double())]
    assert same[0].key(len(IDS[0])) == same[1].key(len(IDS[0]))


def corpus(times) -> TokenCorpus:
    ids = np.concatenate([[TOKENIZER.bos_token_id], IDS[0].numpy()[1:]]).astype(np.int32)
    return TokenCorpus(ids, np.array([0]), 11, times, 9)


def test_a_corpus(clock):
    model = clock.model()
    ours, theirs = (
        evaluate(model, corpus(times[0].numpy()), eos_token_id=TOKENIZER.eos_token_id, chunk=5)
        for times in (clock.times, clock.early)
    )
    assert (ours.nats, ours.time_nats) == (theirs.nats, theirs.time_nats)
    batch = StreamBatches(corpus(clock.times[0].numpy()), 1, 11).next_batch()
    gaps = in_float64(batch.next_times) - in_float64(batch.times)
    assert torch.equal(gaps[0], clock.unit * STEPS.diff().double())


@pytest.mark.parametrize("of", [int, float])
def test_documents_whose_times_are_whole_numbers(of, as_users_run):
    model = Clock(torch.int64).model()
    texts = ["one", "\ntwo", "\nthree"]
    marks = [(0, TODAY), (3, TODAY + 1), (7, TODAY + 3)]
    late, early = (
        Document("".join(texts), "a log", marks=tuple((at, of(time - shift)) for at, time in marks))
        for shift in (0, TODAY)
    )
    made = tokenize_documents([late], TOKENIZER)
    assert made.times.dtype == np.float64 and made.times[-1] == TODAY + 3
    ours, theirs = (examine(model, TOKENIZER, one) for one in (late, early))
    assert ours.gaps.tolist() == [1, 2] and np.array_equal(ours.quantiles, theirs.quantiles)


def test_lines_that_are_watched():
    model, found = Clock(torch.int64).model(), []
    for shift in (0, 1_000_000_000):  # both are read as seconds since 1970
        reader = SurpriseReader(model, TOKENIZER)
        lines = [f"{TODAY - shift + step} line {step}\n" for step in (0, 1, 3)]
        found.append([line.bits for text in lines for line in reader.push(text.encode())])
    assert found[0] == found[1]


def test_a_text_over_several_processes(clock):
    model = clock.model()
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        ours, theirs = (
            sequence_parallel(model, IDS, times, labels=IDS) for times in (clock.times, clock.early)
        )
    finally:
        dist.destroy_process_group()
    assert torch.equal(ours.loss, theirs.loss) and torch.equal(ours.time_loss, theirs.time_loss)
    assert ours.state.last_time.item() == TODAY + 44 * clock.unit


def test_what_was_lost_before_is_said(caplog):
    """float32 holds no seconds of today; nothing more is lost here, and the log has it."""
    lost = torch.tensor([[TODAY + 0.0, TODAY + 1.0]])
    logger = logging.getLogger("transformers")
    logger.addHandler(caplog.handler)
    warning_once.cache_clear()
    try:
        for dtype in (torch.float32, torch.bfloat16):
            assert torch.equal(in_float64(lost.to(dtype)), lost.to(dtype).double())
            assert str(dtype) in caplog.text and "torch.float64" in caplog.text
        caplog.clear()
        for fine in (lost.double(), lost.long(), lost.int(), torch.linspace(0, 1e5, 50)[None]):
            in_float64(fine)
        in_float64(torch.tensor([[TODAY, TODAY + 256.0]]), time_scale=256.0)
        assert not caplog.text
    finally:
        logger.removeHandler(caplog.handler)


@pytest.mark.parametrize(
    "wrong",
    [
        "today",
        [["a"]],
        [[1.0], [1.0, 2.0]],
        torch.zeros(1, 2, dtype=torch.bool),
        torch.zeros(1, 2, dtype=torch.cfloat),
        [[None, 1.0]],
    ],
    ids=str,
)
def test_what_is_no_time_is_refused(wrong, as_users_run):
    with pytest.raises(LiquidError, match="times must be"):
        in_float64(wrong)
    with pytest.raises(LiquidError, match="times must be"):
        Clock(torch.int64).model()(IDS[:, :2], timestamps=wrong)
