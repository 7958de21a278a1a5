import json
from itertools import pairwise

import numpy as np
import pytest
import torch

from liquidlm.errors import LiquidError
from liquidlm.text.batches import IGNORED, StreamBatches
from liquidlm.text.corpus import Document
from liquidlm.text.cutting import parts
from liquidlm.text.token_cache import cached_tokens
from liquidlm.text.token_corpus import TokenCorpus
from liquidlm.text.tokenization import tokenize_documents
from liquidlm.text.tokenizer import LEDTokenizerWrapper
from liquidlm.text.weighting import WeightedCorpus, cut_into_spans

BOS, EOS = 0, 2


class Bytes:
    """Bytes as ids, the simplest tokenizer."""

    bos_token_id, eos_token_id, vocab_size = BOS, EOS, 261

    def encode_all(self, texts):
        return [np.frombuffer(text.encode(), np.uint8).astype(np.int32) + 5 for text in texts]


def corpus_of(tokens: int, documents: int = 4) -> TokenCorpus:
    """A corpus whose ids are all different, except the `<s>` and `</s>` of its documents."""
    starts = np.sort(np.random.default_rng(0).choice(np.arange(1, tokens // 2), documents - 1, False)) * 2
    starts = np.concatenate([[0], starts])
    ids = np.arange(10, tokens + 10, dtype=np.int32)
    ids[starts], ids[starts - 1] = BOS, EOS
    return TokenCorpus(ids, starts.astype(np.int64), tokens)


def take(stream, count):
    return [stream.next_batch() for _ in range(count)]


def same(one, other):
    return all(
        torch.equal(getattr(one, name), getattr(other, name)) for name in ("input_ids", "targets", "starts")
    )


# ---- tokenize_documents


def test_documents_become_one_stream():
    corpus = tokenize_documents((Document(text, "a") for text in ("hi", "ñ", "")), Bytes())
    ids = [BOS, ord("h") + 5, ord("i") + 5, EOS, BOS, 0xC3 + 5, 0xB1 + 5, EOS, BOS, EOS]
    assert corpus.tokens.tolist() == ids and corpus.tokens.dtype == np.int32
    assert corpus.starts.tolist() == [0, 4, 8] and corpus.starts.dtype == np.int64
    assert corpus.text_bytes == 4


def test_no_documents():
    with pytest.raises(LiquidError, match="no document"):
        tokenize_documents([], Bytes())


# ---- StreamBatches


def test_the_first_batch():
    corpus = tokenize_documents([Document("abcde", "a"), Document("fgh", "b")], Bytes())  # 7 + 5 tokens
    batch = StreamBatches(corpus, 2, 4, seed=0).next_batch()
    a = ord("a") + 5
    assert batch.input_ids.tolist() == [[BOS, a, a + 1, a + 2], [EOS, BOS, a + 5, a + 6]]
    assert batch.targets.tolist() == [[a, a + 1, a + 2, a + 3], [IGNORED, a + 5, a + 6, a + 7]]
    assert batch.starts.tolist() == [[True, False, False, False], [True, True, False, False]]
    assert batch.input_ids.dtype == batch.targets.dtype == torch.int64


def test_rows_begin_at_their_share_and_each_batch_continues_the_one_before():
    corpus = corpus_of(1_000)
    stream = StreamBatches(corpus, 3, 7, seed=0)
    batches = take(stream, stream.batches_per_epoch)
    assert batches[0].input_ids[:, 0].tolist() == corpus.tokens[[0, 333, 666]].tolist()
    rows = torch.cat([batch.input_ids for batch in batches], dim=1)
    for row, start in zip(rows, (0, 333, 666), strict=True):
        assert row.tolist() == corpus.tokens[start : start + len(row)].tolist()
    for before, after in pairwise(batches):
        expected = torch.where(after.starts[:, 0], IGNORED, after.input_ids[:, 0])
        assert torch.equal(before.targets[:, -1], expected)


def test_targets_are_the_next_token_but_never_another_documents_start():
    corpus = corpus_of(600, documents=20)
    stream = StreamBatches(corpus, 4, 5, seed=1)
    following = dict(zip(corpus.tokens.tolist(), np.roll(corpus.tokens, -1).tolist(), strict=True))
    for batch in take(stream, 3 * stream.batches_per_epoch):
        for token, target in zip(
            batch.input_ids.flatten().tolist(), batch.targets.flatten().tolist(), strict=True
        ):
            if token not in (BOS, EOS):
                assert target == following[token]
        assert ((batch.targets == IGNORED) == (batch.input_ids == EOS)).all()  # `<s>` follows each `</s>`
        assert not (batch.targets == BOS).any()


def test_starts_are_the_documents_and_the_jump_of_every_epoch():
    corpus = corpus_of(400, documents=8)
    stream = StreamBatches(corpus, 3, 10, seed=2)
    for index, batch in enumerate(take(stream, 4 * stream.batches_per_epoch)):
        expected = batch.input_ids == BOS
        if index % stream.batches_per_epoch == 0:
            expected[:, 0] = True
        assert torch.equal(batch.starts, expected)


@pytest.mark.parametrize(("tokens", "rows", "length"), [(1_000, 3, 7), (997, 1, 10), (64, 4, 8), (65, 4, 16)])
def test_an_epoch_takes_every_token_once_but_for_less_than_a_batch(tokens, rows, length):
    corpus = TokenCorpus(np.arange(10, tokens + 10, dtype=np.int32), np.zeros(1, np.int64), tokens)
    stream = StreamBatches(corpus, rows, length, seed=3)
    skipped = []
    for epoch in range(3):
        assert stream.epoch == epoch
        batches = take(stream, stream.batches_per_epoch)
        seen = torch.cat([batch.input_ids.flatten() for batch in batches])
        assert len(seen.unique()) == len(seen) == tokens - tokens % (rows * length)
        skipped.append(set(range(10, tokens + 10)) - set(seen.tolist()))
    if skipped[0]:
        assert skipped[0] != skipped[1] != skipped[2]


def test_epochs_are_cut_elsewhere_by_the_seed():
    def first_tokens(seed):
        stream = StreamBatches(corpus_of(1_000), 2, 10, seed)
        return [take(stream, stream.batches_per_epoch)[0].input_ids[:, 0].tolist() for _ in range(3)]

    one, other = first_tokens(0), first_tokens(1)
    assert one == first_tokens(0)
    assert one[0] == other[0] and one[1:] != other[1:]
    assert one[0] != one[1] != one[2]


@pytest.mark.parametrize("taken", [0, 1, 5, 11, 12, 13, 30])
def test_a_resumed_stream_equals_the_uninterrupted_one(taken):
    corpus = corpus_of(500)
    stream = StreamBatches(corpus, 4, 10, seed=4)
    assert stream.batches_per_epoch == 12
    take(stream, taken)
    state = json.loads(json.dumps(stream.state_dict()))
    resumed = StreamBatches(corpus, 4, 10, seed=4)
    take(resumed, 2)  # its own past does not matter
    resumed.load_state_dict(state)
    assert resumed.epoch == stream.epoch == taken // 12
    assert all(map(same, take(stream, 30), take(resumed, 30)))


@pytest.mark.parametrize(
    ("tokens", "rows", "length", "seed", "name"),
    [
        (501, 4, 10, 4, "tokens"),
        (500, 5, 10, 4, "batch_size"),
        (500, 4, 9, 4, "length"),
        (500, 4, 10, 5, "seed"),
    ],
)
def test_a_state_of_another_run_is_refused(tokens, rows, length, seed, name):
    state = StreamBatches(corpus_of(500), 4, 10, seed=4).state_dict()
    with pytest.raises(LiquidError, match=f"cannot resume: {name} was"):
        StreamBatches(corpus_of(tokens), rows, length, seed).load_state_dict(state)


def test_too_short_a_corpus_says_what_there_is_and_what_is_needed():
    StreamBatches(corpus_of(41), 4, 10, seed=0).next_batch()
    with pytest.raises(
        LiquidError, match=r"has 40 tokens, but a batch of 4 × 10 needs 41: .*--context.*more text"
    ):
        StreamBatches(corpus_of(40), 4, 10, seed=0)
    with pytest.raises(LiquidError, match=r"has 40 tokens.*1 × 64 needs 65"):
        StreamBatches(corpus_of(40), 1, 64, seed=0)


@pytest.mark.parametrize(("rows", "length"), [(0, 10), (4, 0), (-1, 5)])
def test_bad_sizes(rows, length):
    with pytest.raises(LiquidError, match="at least 1"):
        StreamBatches(corpus_of(100), rows, length, seed=0)


# ---- large corpora


@pytest.mark.parametrize("size", [1, 30, 10**6])
def test_parts_of_a_document_are_one_document(size):
    text = "One document of some length, in parts. " * 20
    texts = list(parts(iter([text]), size))
    whole = tokenize_documents([Document(text, "a"), Document("b", "b")], Bytes())
    pieces = [Document(part, "a", continues=i > 0) for i, part in enumerate(texts)]
    corpus = tokenize_documents([*pieces, Document("b", "b")], Bytes())
    assert corpus.tokens.tolist() == whole.tokens.tolist() and corpus.starts.tolist() == whole.starts.tolist()
    assert corpus.text_bytes == whole.text_bytes and corpus.checksum == whole.checksum


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LIQUIDLM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_corpus_in_a_file_is_the_one_in_memory(cache):
    documents = [Document(f"Text {i}: señor, " * (10 * i + 1), str(i)) for i in range(20)]
    tokenizer = LEDTokenizerWrapper.train([d.text for d in documents], 300)
    stored = cached_tokens("digest", lambda: documents, tokenizer)
    plain = tokenize_documents(documents, tokenizer)
    assert stored.tokens[0 : stored.tokens.size].tolist() == plain.tokens.tolist()
    assert stored.tokens[5:9].tolist() == plain.tokens[5:9].tolist() and stored.tokens[10**9 :].size == 0
    assert stored.starts.tolist() == plain.starts.tolist() and stored.text_bytes == plain.text_bytes
    one, other = (StreamBatches(corpus, 3, 40, seed=1) for corpus in (stored, plain))
    assert all(map(same, take(one, 50), take(other, 50))) and one.state_dict() == other.state_dict()


def test_the_cache_is_asked_first_and_knows_text_and_tokenizer(cache):
    def fails():
        raise AssertionError("read again")

    tokenizer, documents = LEDTokenizerWrapper.bytes(), [Document("some text", "a")]
    first = cached_tokens("one", lambda: documents, tokenizer)
    assert cached_tokens("one", fails, tokenizer).checksum == first.checksum
    for digest, other in (("two", tokenizer), ("one", LEDTokenizerWrapper.train(["some text"], 262))):
        with pytest.raises(AssertionError, match="read again"):
            cached_tokens(digest, fails, other)
    assert len(list((cache / "tokens").iterdir())) == 1  # what failed left nothing
    for name in ("tokens.bin", "starts.npy", "corpus.json"):
        (file,) = (cache / "tokens").glob(f"*/{name}")
        whole = file.read_bytes()
        for left in (whole[:-2], b""):
            file.write_bytes(left)
            with pytest.raises(LiquidError, match="damaged"):
                cached_tokens("one", fails, tokenizer)
        file.write_bytes(whole)


# ---- weights


def weighted(weights, seed=0):
    documents = [Document(chr(ord("a") + i) * (3 * i + 5), str(i)) for i in range(len(weights))]
    return WeightedCorpus(tokenize_documents(documents, Bytes()), weights, seed)


def documents_of(ring):
    """How often each document is in a ring, by its letter; every one whole."""
    ids, starts, _ = ring.window(0, ring.size)
    found = np.split(ids, np.flatnonzero(starts)[1:])
    for document in found:
        letter = document[1]
        assert document[0] == BOS and document[-1] == EOS and (document[1:-1] == letter).all()
        assert len(document) == 3 * (letter - 5 - ord("a")) + 5 + 2
    letters = [int(document[1]) - 5 - ord("a") for document in found]
    return letters, np.bincount(letters, minlength=len(ring.corpus.starts)).tolist()


def test_documents_come_by_their_weight_in_a_new_order_every_epoch():
    corpus = weighted([3, 1, 0, 2, 0.25])
    orders, counts = zip(*(documents_of(corpus.ring(epoch)) for epoch in range(200)), strict=True)
    assert all(count[:4] == [3, 1, 0, 2] for count in counts)
    assert 0.15 < np.mean([count[4] for count in counts]) < 0.35
    assert len({tuple(order) for order in orders}) > 50
    assert documents_of(corpus.ring(7)) == documents_of(weighted([3, 1, 0, 2, 0.25]).ring(7))
    assert documents_of(corpus.ring(7)) != documents_of(weighted([3, 1, 0, 2, 0.25], seed=1).ring(7))


@pytest.mark.parametrize(("begin", "count"), [(0, 1), (3, 50), (20, 7), (41, 200), (-5, 9), (10**6, 30)])
def test_a_window_of_the_ring_is_a_part_of_it(begin, count):
    ring = weighted([2, 1, 1.0]).ring(3)
    ids, starts, _ = ring.window(0, ring.size)
    places = (begin + np.arange(count)) % ring.size
    found = ring.window(begin, count)
    assert found[0].tolist() == ids[places].tolist() and found[1].tolist() == starts[places].tolist()


@pytest.mark.parametrize("taken", [0, 3, 10, 25])
def test_a_weighted_stream_resumes_too(taken):
    stream, resumed = (StreamBatches(weighted([3, 1, 0.5, 2]), 2, 5, seed=4) for _ in range(2))
    take(stream, taken)
    resumed.load_state_dict(json.loads(json.dumps(stream.state_dict())))
    assert all(map(same, take(stream, 30), take(resumed, 30)))
    with pytest.raises(LiquidError, match="checksum"):
        StreamBatches(weighted([3, 1, 0.5, 1]), 2, 5, seed=4).load_state_dict(stream.state_dict())


@pytest.mark.parametrize("weights", [[0.1, 0.02, 0.03], [0, 0, 1e-300], [0.4, 0.4, 0.4]])
def test_weights_under_one_never_leave_an_epoch_too_short_for_a_batch(weights):
    corpus = weighted(weights)  # of 7, 10 and 13 tokens with their ends
    batches = StreamBatches(corpus, 2, 14)
    for _ in range(200):
        batches.next_batch()
    assert batches.epoch > 20
    assert all(corpus.ring(epoch, 29).size >= 29 for epoch in range(50))


def test_weights_under_one_keep_their_proportions():
    """Documents of three lengths come 1 : 2 : 4, although the first draw of most epochs is too short."""
    starts = np.array([0, 10, 30])
    corpus = WeightedCorpus(TokenCorpus(np.arange(60, dtype=np.int32), starts, 60), [0.05, 0.1, 0.2])
    counts = np.zeros(3)
    for epoch in range(3000):
        ring = corpus.ring(epoch, 41)
        begins = ring.ends - np.diff(ring.ends, prepend=0) + ring.shift
        counts += np.bincount(np.searchsorted(starts, begins), minlength=3)
    assert np.allclose(counts / counts[0], [1, 2, 4], rtol=0.1)


def test_a_text_too_short_for_a_batch_is_refused_at_once_whatever_its_weights():
    with pytest.raises(LiquidError, match="shorter context"):
        StreamBatches(weighted([0.5, 0.5, 0.5]), 2, 29)
    StreamBatches(weighted([2, 2, 2]), 2, 29)


@pytest.mark.parametrize("weights", [[1], [1, -1], [0, 0], [1, float("inf")], [1, float("nan")], [1, 1e12]])
def test_weights_that_make_no_sense(weights):
    with pytest.raises(LiquidError, match="weights"):
        WeightedCorpus(weighted([1, 1]).corpus, weights)


# ---- spans


@pytest.mark.parametrize("length", [1, 4, 5, 7, 100])
def test_spans_are_the_same_tokens_with_more_starts(length):
    corpus = weighted([1, 1, 1]).corpus  # 7, 10 and 13 tokens
    spans, document = cut_into_spans(corpus, length)
    assert (spans.tokens == corpus.tokens).all() and set(corpus.starts) <= set(spans.starts)
    lengths = np.diff(spans.starts, append=spans.size)
    assert lengths.min() > 0 and lengths.max() <= length
    assert np.bincount(document, lengths).tolist() == [7, 10, 13]
    assert np.bincount(document).tolist() == [-(-n // length) for n in (7, 10, 13)]


def test_an_epoch_in_spans_reads_every_token_once_and_nothing_passes_a_cut():
    corpus = tokenize_documents([Document("abcdefghijklmnopqrstuvwxyz", "one")], Bytes())
    spans, document = cut_into_spans(corpus, 4)
    ring = WeightedCorpus(spans, [1.0] * len(document), 3).ring(0)
    ids, starts, _ = ring.window(0, ring.size)
    assert sorted(ids) == sorted(corpus.tokens) and ids.tolist() != corpus.tokens.tolist()
    assert starts.tolist() == np.isin(ids, corpus.tokens[::4]).tolist()
    batch = StreamBatches(WeightedCorpus(spans, [1.0] * len(document), 3), 1, 20).next_batch()
    assert batch.starts[0].sum() == 5 and ((batch.targets == IGNORED)[:, :-1] == batch.starts[:, 1:]).all()


def test_a_span_of_nothing():
    with pytest.raises(LiquidError, match="span"):
        cut_into_spans(weighted([1]).corpus, 0)


@pytest.mark.parametrize("edge", [1 << 20, (1 << 20) - 1, (1 << 20) + 1])
def test_a_gap_at_the_edge_of_what_is_read_at_a_time_counts_once(edge: int) -> None:
    times = np.zeros((1 << 20) + 3)
    times[edge:] = 7.0
    ids = np.zeros(len(times), np.int32)
    corpus = TokenCorpus(ids, np.zeros(1, np.int64), 1, times, 2)
    assert corpus._gaps.tolist() == [7.0] and corpus.typical_gap == 7.0 and corpus.resolution == 1.0
    cut = TokenCorpus(ids, np.array([0, edge]), 1, times, 2)  # another document: no gap
    assert cut._gaps.size == 0 and cut.typical_gap == 1.0
