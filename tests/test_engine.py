"""Continuous batching: every text as if it were written alone, whatever goes on beside it."""

import queue
import threading
import time

import numpy as np
import pytest
import torch
from engines import ids, tiny

from liquidlm.inference.generate import read_output, write, write_timed
from liquidlm.inference.sampling import Sampling
from liquidlm.model.folded import FoldedEmbedding
from liquidlm.serve.batch import MARK
from liquidlm.serve.completion_text import CompletionText
from liquidlm.serve.engine import Busy, Engine
from liquidlm.serve.jobs import Finished, Job, PromptRead, Token
from liquidlm.serve.prefixes import BLOCK, HashedPrompt, Snapshot
from liquidlm.text.token_ids import StreamDecoder
from liquidlm.text.tokenizer import LEDTokenizerWrapper


class Desk:
    """An engine, and its events."""

    def __init__(self, model, **options):
        self.events = queue.Queue()
        self.engine = Engine(model, self.events.put, **options)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.engine.close()

    def run(self, *jobs):
        self.engine.submit(*jobs)
        return self.until(*jobs)

    def until(self, *jobs):
        """The events of each of these jobs, until all have ended."""
        events = {job: [] for job in jobs}
        while any(not own or not isinstance(own[-1], Finished) for own in events.values()):
            for job, event in self.events.get(timeout=60):
                if job in events:
                    events[job].append(event)
        return [events[job] for job in jobs]


def job(
    prompt: np.ndarray,
    count: int = 20,
    times=None,
    likeliest=None,
    seconds=float("inf"),
    stop=(2,),
    **how,
) -> Job:
    return Job(HashedPrompt(prompt, times), Sampling(**how), count, stop, likeliest, seconds)


def tokens(events) -> list[int]:
    return [event.id for event in events if isinstance(event, Token)]


def alone(model, one: Job) -> tuple[list[int], list[float] | None]:
    """The same text by the loop of the command line."""
    state = model.new_state()
    read = torch.from_numpy(one.prompt.ids)[None]
    times = None if one.prompt.times is None else torch.from_numpy(one.prompt.times)[None]
    output = read_output(model, read, state, times, chunk=BLOCK, table=FoldedEmbedding(model))
    how = {"context": read, "stop": one.stop}
    if times is None:
        drawn = write(model, output.logits[:, -1].float(), state, one.sampling, one.max_new_tokens, **how)
        return [int(token) for token in drawn], None
    pairs = list(write_timed(model, output, state, one.sampling, one.max_new_tokens, **how))
    return [int(token) for token, _ in pairs], [float(time) for _, time in pairs]


# ---- the engine


def test_texts_written_together_are_those_written_alone() -> None:
    model = tiny()
    jobs = [
        job(ids(5 + 61 * i, i), 3 + 7 * (i % 5), seed=i, temperature=(i % 3) / 2, top_k=(i % 4) * 10)
        for i in range(20)
    ]
    jobs += [job(ids(40, 99), 30, seed=3, repetition_penalty=1.3), job(ids(1), 5, temperature=0.0)]
    with Desk(model, rows=6) as desk:
        found = desk.run(*jobs)
    assert [tokens(events) for events in found] == [alone(model, one)[0] for one in jobs]
    assert all(isinstance(events[0], PromptRead) and len(events) >= 3 for events in found)


def test_with_times_too() -> None:
    model = tiny(time_components=3, time_scale=2.0)
    clock = np.random.default_rng(0).exponential(2.0, 700).cumsum()
    jobs = [job(ids(n, n), 15, clock[:n], seed=n, temperature=float(n % 2)) for n in (1, 30, 513, 700)]
    jobs.append(job(ids(30, 30), 15, seed=1))  # and one without among them
    with Desk(model) as desk:
        found = desk.run(*jobs)
    for events, one in zip(found, jobs, strict=True):
        ids_alone, times_alone = alone(model, one)
        assert tokens(events) == ids_alone
        times = [event.time for event in events if isinstance(event, Token)]
        assert times == (
            [None] * 15 if times_alone is None else pytest.approx(times_alone, abs=1e-3, rel=1e-5)
        )


@pytest.mark.parametrize("timed", [False, True])
def test_what_was_read_before_gives_the_same_bits(timed: bool) -> None:
    model = tiny(time_components=3)
    whole, clock = ids(3 * BLOCK + 100), np.arange(3 * BLOCK + 100.0) * 0.7
    cuts = {1: 0, BLOCK: 0, BLOCK + 1: BLOCK, 2 * BLOCK: BLOCK, 3 * BLOCK + 100: 3 * BLOCK}

    def of(length: int) -> Job:
        return job(whole[:length], 6, clock[:length] if timed else None, 5, seed=1)

    with Desk(model) as warm:
        warm.run(of(len(whole) - 1))
        anywhere, before = warm.engine.prefixes.anywhere, 0
        for length, blocks in cuts.items():
            cached, before = (before if anywhere and length > 1 else blocks), length
            if length == len(whole):  # one token after the prompt that was read first
                cached = len(whole) - 1 if anywhere else blocks
            with Desk(model) as cold:
                (expected,), (found,) = cold.run(of(length)), warm.run(of(length))
            assert (
                expected[0] == PromptRead(0) and found[0] == PromptRead(cached) and found[1:] == expected[1:]
            )
            (again,) = warm.run(of(length))
            assert again[0] == PromptRead(length) and again[1:] == expected[1:]
        other = whole.copy()
        other[BLOCK + 5] ^= 1
        (found,) = warm.run(job(other, 1, clock if timed else None))
        assert found[0] == PromptRead(BLOCK + anywhere)
        (found,) = warm.run(job(whole, 1, clock + 1 if timed else clock))  # other times: another prompt
        assert found[0] == PromptRead(0)


def test_probabilities_are_the_model_s() -> None:
    model, one = tiny(), job(ids(50), 8, likeliest=4, temperature=1.7, top_k=3, seed=0)
    with Desk(model) as desk:
        (found,) = desk.run(one)
    drawn = [event for event in found if isinstance(event, Token)]
    read = torch.from_numpy(np.concatenate([one.prompt.ids, tokens(found)]))[None]
    with torch.no_grad():
        expected = model(read).logits[0, 49:-1].float().log_softmax(-1)
    for event, row in zip(drawn, expected, strict=True):
        assert event.logprob == pytest.approx(row[event.id].item(), abs=1e-4)
        values, likeliest = row.topk(4)
        assert [i for i, _ in event.likeliest] == likeliest.tolist()
        assert [value for _, value in event.likeliest] == pytest.approx(values.tolist(), abs=1e-4)


def test_a_cancelled_text_leaves_and_the_others_go_on() -> None:
    model = tiny()
    jobs = [job(ids(9, i), 400, seed=i) for i in range(4)]
    with Desk(model, rows=2) as desk:
        desk.engine.submit(*jobs)
        for one in (jobs[0], jobs[3]):
            desk.engine.cancel(one)
        found = desk.until(*jobs[1:3])
        assert [tokens(events) for events in found] == [alone(model, one)[0] for one in jobs[1:3]]
        assert desk.engine.load()["running"] == desk.engine.load()["waiting"] == 0


def test_limits() -> None:
    with Desk(tiny(), rows=1, waiting=2) as desk:
        long = job(ids(3), 10**9, seed=0, seconds=0.5, stop=())
        (found,) = desk.run(long)
        assert found[-1] == Finished("length", "the time was up") and len(found) > 3
        (late,) = desk.run(job(ids(3), 5, seconds=0.0))
        assert late == [Finished("unbegun", "the time was up")]
        with pytest.raises(Busy, match="wait"):
            desk.engine.submit(*(job(ids(3), 1) for _ in range(4)))
        assert desk.engine.load()["waiting"] == 0
        endless = job(ids(3), 10**9, seed=0, stop=())
        desk.engine.submit(endless)
        while not desk.engine.load()["running"]:
            time.sleep(0.01)
        desk.engine.stop(0.5)
        with pytest.raises(Busy, match="shutting down"):
            desk.engine.submit(job(ids(3), 1))
        assert desk.until(endless)[0][-1] == Finished("length", "the time was up")


def test_a_model_that_breaks_fails_its_texts_and_nothing_else() -> None:
    model = tiny()
    with torch.no_grad():
        model.output_proj.weight[5] = float("nan")
    with Desk(model) as desk:
        (found,) = desk.run(job(ids(5), 5, seed=0))
        assert found[-1].reason == "failed" and found[-1].why
        (found,) = desk.run(job(np.array([0, 10**6]), 5))  # an id that is none
        assert found[-1].reason == "failed" and "10" in found[-1].why
        assert desk.engine.load()["running"] == 0


def test_a_failure_nobody_foresaw_ends_what_is_begun_and_nothing_later(monkeypatch) -> None:
    model = tiny()
    with Desk(model) as desk:
        jobs = [job(ids(5, i), 10**6, seed=i, temperature=0.0) for i in range(3)]
        desk.engine.submit(*jobs)
        while desk.engine.load()["running"] < 3:
            time.sleep(0.01)
        with monkeypatch.context() as broken:
            broken.setattr(desk.engine._batch, "step", None)
            found = desk.until(*jobs)
        assert [events[-1].reason for events in found] == ["failed"] * 3
        assert tokens(desk.run(job(ids(5), 8, seed=1))[0]) == alone(model, job(ids(5), 8, seed=1))[0]


def test_a_short_prompt_does_not_wait_for_a_long_one() -> None:
    with Desk(tiny()) as desk:
        long, short = job(ids(300 * BLOCK), 1), job(ids(5), 3)
        desk.engine.submit(long, short)
        first = []
        while not any(isinstance(event, Finished) for _, event in first):
            first += desk.events.get(timeout=60)
        assert {one for one, _ in first} == {short}
        desk.engine.cancel(long)


def test_callers_in_many_threads() -> None:
    model = tiny()
    expected = [alone(model, job(ids(20, i), 25, seed=i))[0] for i in range(8)]
    found: dict[Job, list] = {}
    done = threading.Semaphore(0)

    def deliver(events):
        for one, event in events:
            found.setdefault(one, []).append(event)
            if isinstance(event, Finished):
                done.release()

    engine = Engine(model, deliver, rows=3)
    jobs = [job(ids(20, i), 25, seed=i) for i in range(8)]
    threads = [threading.Thread(target=engine.submit, args=(one,)) for one in jobs]
    for thread in threads:
        thread.start()
    for _ in jobs:
        assert done.acquire(timeout=60)
    engine.close()
    assert [tokens(found[one]) for one in jobs] == expected


def test_first_come_first_served() -> None:
    with Desk(tiny(), rows=1) as desk:
        jobs = [job(ids(5, seed), 3, seed=seed) for seed in range(4)]
        desk.engine.submit(*jobs)
        ended = []
        while len(ended) < len(jobs):
            ended += [
                jobs.index(one) for one, event in desk.events.get(timeout=60) if isinstance(event, Finished)
            ]
    assert ended == [0, 1, 2, 3]


def test_a_cancelled_text_makes_room_at_once_for_another_that_waits() -> None:
    with Desk(tiny(), rows=1, waiting=2) as desk:
        first, second, third, fourth = (job(ids(5, i), 10**6 if i == 0 else 3, seed=i) for i in range(4))
        desk.engine.submit(first)
        while not isinstance(desk.events.get(timeout=60)[-1][1], Token):
            pass  # until it is written, and waits no more
        desk.engine.submit(second, third)
        with pytest.raises(Busy):
            desk.engine.submit(fourth)
        desk.engine.cancel(second)
        assert desk.engine.load()["waiting"] == 1
        desk.engine.submit(fourth)
        desk.engine.cancel(first)
        assert all(isinstance(events[-1], Finished) for events in desk.until(third, fourth))


# ---- what is read once


class Counted:
    """Tokens that the steps of an engine read of prompts."""

    def __init__(self, engine: Engine):
        self.read, self._of_step = 0, engine._step.read_events
        engine._step.read_events = self._count  # pyright: ignore[reportAttributeAccessIssue]

    def _count(self, tokens, *more, **how):
        self.read += tokens.shape[1]
        return self._of_step(tokens, *more, **how)


@pytest.mark.parametrize(("rows", "cache"), [(8, 1 << 20), (8, 0), (2, 0), (3, 1 << 20)])
def test_a_prompt_of_several_texts_is_read_once(rows, cache) -> None:
    model, prompt = tiny(), HashedPrompt(ids(BLOCK + 9))
    jobs = [Job(prompt, Sampling(1.0, top_p=1.0, seed=seed), 12, (2,)) for seed in range(8)]
    with Desk(model, rows=rows, cache_bytes=cache) as desk:
        counted = Counted(desk.engine)
        found = desk.run(*jobs)
        assert counted.read == len(prompt.ids)
    assert [tokens(events) for events in found] == [alone(model, one)[0] for one in jobs]


def test_requests_at_once_share_what_they_have_in_common() -> None:
    whole = ids(3 * BLOCK)
    alike = [job(whole, 3, seed=i) for i in range(3)]
    other = [job(np.concatenate([whole[: 2 * BLOCK], ids(20, i)]), 3, seed=i) for i in range(1, 4)]
    with Desk(tiny()) as desk:
        counted = Counted(desk.engine)
        desk.run(*alike, *other)
        assert counted.read == len(whole) + 60
    with Desk(tiny(), cache_bytes=0) as desk:  # without a cache nobody learns what others ask
        counted = Counted(desk.engine)
        desk.run(*alike)
        assert counted.read == 3 * len(whole)


def test_going_on_from_a_written_text_reads_what_is_new() -> None:
    with Desk(tiny()) as desk, Desk(tiny()) as cold:
        if not desk.engine.prefixes.anywhere:
            pytest.skip("without the kernel a state depends on how its tokens were read")
        first = job(ids(30), BLOCK + 90, seed=1, stop=())
        written = tokens(desk.run(first)[0])
        text = np.concatenate([first.prompt.ids, written])
        for kept in (len(text), len(text) - 40):  # whole, and cut back
            again = np.concatenate([text[:kept], [9, 8, 7]])
            (warm,), (new,) = (one.run(job(again, 9, seed=2, likeliest=2)) for one in (desk, cold))
            assert warm[1:] == new[1:]  # to the bit, probabilities too
            read = kept + 3 - warm[0].cached_tokens
            assert read <= (4 if kept == len(text) else 3 + 64)
        timed = job(ids(30), 9, np.arange(30.0), seed=1, stop=())
        desk.run(timed)


@pytest.mark.parametrize("broken", ["longest", "keep"])
def test_a_prompt_whose_reading_fails_has_an_end(broken, monkeypatch) -> None:
    with Desk(tiny()) as desk:
        with monkeypatch.context() as patch:
            patch.setattr(desk.engine.prefixes, broken, None)
            patch.setattr(desk.engine.model, "new_state", None) if broken == "keep" else None
            found = desk.run(*(job(ids(9, i), 3) for i in range(3)))
            assert [events[-1].reason for events in found] == ["failed"] * 3
        assert len(tokens(desk.run(job(ids(9), 3, stop=()))[0])) == 3


def test_the_work_of_a_token_does_not_grow_with_the_text(monkeypatch):
    """Each token is decoded once and each character sent once; states are copied at even distances, and the
    ids of the text at its end alone."""
    copied, decoded = [], []
    own, longer, push = Snapshot.owned, HashedPrompt.extended, StreamDecoder.push
    monkeypatch.setattr(Snapshot, "owned", lambda self: copied.append("state") or own(self))
    monkeypatch.setattr(HashedPrompt, "extended", lambda self, ids: copied.append("ids") or longer(self, ids))
    monkeypatch.setattr(StreamDecoder, "push", lambda self, token: decoded.append(token) or push(self, token))
    tokenizer, one = LEDTokenizerWrapper.bytes(), job(ids(5), 300, stop=(), seed=1)
    text, sent = CompletionText(tokenizer, ["never this"]), []
    with Desk(tiny()) as desk:
        (events,) = desk.run(one)
    for event in events:
        if isinstance(event, Token):
            sent.append(text.push(event))
    sent.append(text.end(Finished("length")))
    assert decoded == tokens(events) == [token.id for delta in sent for token, _ in delta.tokens]
    assert "".join(delta.text for delta in sent) == tokenizer.decode(decoded)
    # Each mark is a copy; the cache copies the prompt's state, the last two marks and the end.
    assert (copied.count("ids"), copied.count("state")) == (1, 299 // MARK + 4)
