"""Tokenizers: any text survives, ids are stable, mistakes are named."""

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from tokenizers_for_tests import LED, TEXTS, make, refused, rust, unchecked
from transformers import RobertaTokenizer

from liquidlm.text import tokenizer as module
from liquidlm.text.byte_level import SPECIAL_TOKENS, byte_characters
from liquidlm.text.tokenizer import LEDTokenizerWrapper

AWKWARD = [*SPECIAL_TOKENS, " ", "  ", "\n", "\n\n", "\t", "\r\n", "\x00", "\x1c", "\u00a0", "\u3000"]
AWKWARD += ["e\u0301", "é", "你好", "🙂", "👩‍👩‍👧", "'s", "12", "!!", "word", "Ġ", "\ufffd", "\ufeff"]
any_text = st.lists(st.sampled_from(AWKWARD) | st.text(max_size=8), max_size=12).map("".join)


any_text = st.lists(st.sampled_from(AWKWARD) | st.text(max_size=8), max_size=12).map("".join)


def whole(tokenizer: LEDTokenizerWrapper, text: str) -> list[int]:
    """The ids as the library gives them for the text in one piece."""
    return tokenizer.backend.backend_tokenizer.encode(text, add_special_tokens=False).ids


@settings(max_examples=100, deadline=None)
@pytest.fixture(params=["bytes", "bpe", "led"], scope="module")
def tokenizer(request) -> LEDTokenizerWrapper:
    return make(request.param)


@given(text=any_text)
def test_any_text_survives_and_holds_no_special_token(tokenizer, text):
    ids = tokenizer.encode(text)
    assert ids.dtype == np.int32
    assert tokenizer.decode(ids) == tokenizer.decode(ids, skip_special_tokens=False) == text
    specials = [tokenizer.backend.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS]
    assert not np.isin(ids, specials).any()
    input_ids, mask = tokenizer.tokenize(text)
    assert input_ids.tolist() == [[tokenizer.bos_token_id, *ids]] and mask.all()
    assert tokenizer.backend(text)["input_ids"] == [tokenizer.bos_token_id, *ids]
    assert tokenizer.backend.decode(ids, skip_special_tokens=True) == text


def test_special_tokens_are_leds(tokenizer):
    ids = [tokenizer.bos_token_id, tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id]
    ids.append(tokenizer.mask_token_id)
    assert ids == [0, 1, 2, 3, len(tokenizer) - 1]
    assert len(tokenizer) == tokenizer.vocab_size == len(tokenizer.backend)
    assert tokenizer.backend.convert_tokens_to_ids(list(SPECIAL_TOKENS)) == ids
    assert tokenizer.decode(ids, skip_special_tokens=False) == "".join(SPECIAL_TOKENS)
    assert tokenizer.decode(ids) == tokenizer.decode([]) == ""
    assert tokenizer.tokenize("")[0].tolist() == [[0]] and tokenizer.encode("").shape == (0,)


def test_bytes_are_four_plus_the_byte():
    tokenizer = make("bytes")
    assert (tokenizer.vocab_size, tokenizer.mask_token_id) == (261, 260)
    text = "".join(map(chr, range(0x900))) + "€🙂"
    np.testing.assert_array_equal(tokenizer.encode(text), np.frombuffer(text.encode(), np.uint8) + 4)
    assert whole(tokenizer, text) == tokenizer.encode(text).tolist()
    assert tokenizer.decode([4 + 0xC3]) == "\ufffd"


def test_real_led_ids():
    tokenizer = make("led")
    assert len(tokenizer) == 50265 and tokenizer.mask_token_id == 50264
    assert tokenizer.encode("Hello world").tolist() == [31414, 232]
    original = RobertaTokenizer.from_pretrained(str(LED))
    for text in TEXTS[:5]:
        assert [0, *tokenizer.encode(text), 2] == original(text)["input_ids"]


@settings(max_examples=100, deadline=None)
@given(text=any_text)
def test_cutting_a_text_changes_no_id(text):
    tokenizer = make("bpe")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PIECE", 1)  # cut wherever it may be cut
        assert tokenizer.encode(text).tolist() == whole(tokenizer, text)


def test_cutting_is_exact_around_every_kind_of_character(monkeypatch):
    """All white space lies below U+3100; Python's idea of it is not the pre-tokeniser's (U+001C)."""
    monkeypatch.setattr(module, "PIECE", 1)
    split = pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str
    text = "".join(f"a{chr(c)}\n!{chr(c)} b{chr(c)}  {chr(c)}\n\nc" for c in range(0x3100))
    pieces = list(module.pieces(text, module.PIECE))
    assert "".join(pieces) == text and len(pieces) > 0x3000
    words = [word for piece in pieces for word, _ in split(piece)]
    assert words == [word for word, _ in split(text)]


def test_a_long_document_is_cut_and_unchanged():
    tokenizer, text = make("bpe"), "\n".join(TEXTS)
    assert len(list(module.pieces(text, module.PIECE))) > 10
    assert tokenizer.encode(text).tolist() == whole(tokenizer, text)


def test_no_cut_where_other_rules_split_words():
    """Llama's rule joins a full stop and the newline after it; an added token may hold anything."""
    text = "word.\n" * 3000
    vocab = {token: index for index, token in enumerate([*byte_characters(), ".Ċ"])}
    llama = Tokenizer(models.BPE(vocab, [(".", "Ċ")]))
    rule = pre_tokenizers.Split(Regex(r" ?\p{L}+| ?[^\s\p{L}]+[\r\n]*|\s+"), "isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    llama.pre_tokenizer = pre_tokenizers.Sequence([rule, byte_level])
    added = rust()
    added.add_tokens([".\n"])
    for theirs, joined in ((llama, ".Ċ"), (added, ".\n")):
        tokenizer = LEDTokenizerWrapper(theirs)
        ids = tokenizer.encode(text)
        assert (ids == theirs.token_to_id(joined)).sum() == 3000
        assert ids.tolist() == whole(tokenizer, text) and tokenizer.decode(ids) == text


def test_batches_are_padded_on_the_left(tokenizer):
    texts = ["", "a bit", "much longer 🙂 text"]
    input_ids, mask = tokenizer.tokenize(texts)
    assert input_ids.dtype == mask.dtype == torch.int64 and input_ids.shape == mask.shape
    for text, row, seen in zip(texts, input_ids, mask, strict=True):
        expected = [0, *tokenizer.encode(text).tolist()]
        gap = len(row) - len(expected)
        assert row.tolist() == [1] * gap + expected
        assert seen.tolist() == [0] * gap + [1] * len(expected)
    backend = tokenizer.backend(texts, padding=True, return_tensors="pt")
    assert torch.equal(backend["input_ids"], input_ids) and torch.equal(backend["attention_mask"], mask)
    unsigned = input_ids.numpy().astype(np.uint16)
    for batch in (input_ids, unsigned, input_ids.tolist(), [tuple(row.tolist()) for row in input_ids]):
        assert tokenizer.batch_decode(batch) == texts


def test_eos_only_on_request_and_never_cut_off():
    tokenizer = make("bytes")
    ab = [4 + ord("a"), 4 + ord("b")]
    assert tokenizer.tokenize("ab")[0].tolist() == [[0, *ab]]
    assert tokenizer.tokenize("ab", add_eos=True)[0].tolist() == [[0, *ab, 2]]
    assert tokenizer.tokenize(["abab", "ab"], max_length=4, add_eos=True)[0].tolist() == [[0, *ab, 2]] * 2
    assert tokenizer.tokenize("abab", max_length=3)[0].tolist() == [[0, *ab]]
    assert tokenizer.tokenize("ab", max_length=1)[0].tolist() == [[0]]
    assert tokenizer.tokenize("ab" * 50, max_length=3, truncation=False)[0].shape == (1, 101)
    assert tokenizer.tokenize("a" * 20000)[0].shape == (1, 16384)
    assert tokenizer.tokenize(["ab", "ba"], padding=False)[0].shape == (2, 3)


def test_the_backends_settings_do_not_reach_us():
    tokenizer = make("bpe")
    text = "several words, one after another"
    before = tokenizer.encode(text)
    tokenizer.backend(text, truncation=True, max_length=3)
    tokenizer.backend([text, "a"], padding="max_length", max_length=50, split_special_tokens=False)
    np.testing.assert_array_equal(tokenizer.encode(text), before)
    assert tokenizer.decode(tokenizer.encode("</s>")) == "</s>"


@settings(max_examples=100, deadline=None)
@given(text=any_text)
def test_streamed_text_is_undamaged_characters_as_soon_as_possible(tokenizer, text):
    stream, ids = tokenizer.stream(), tokenizer.encode(text)
    seen = ""
    for count, token in enumerate(ids, start=1):
        piece = stream.push(token)
        seen += piece
        assert text.startswith(seen)  # so U+FFFD comes only where the text has it
        complete = b"".join(tokenizer._token_bytes[i] for i in ids[:count]).decode("utf-8", errors="ignore")
        assert seen == complete
    assert seen == text and stream.flush() == ""


@settings(max_examples=200, deadline=None)
@given(data=st.data(), skip=st.booleans())
def test_streaming_any_ids_equals_decoding_them(tokenizer, data, skip):
    highest = tokenizer.vocab_size - 1
    some = st.integers(0, highest) | st.integers(4, 259) | st.sampled_from([0, 1, 2, 3, highest])
    ids = data.draw(st.lists(some, max_size=12))
    stream = tokenizer.stream(skip_special_tokens=skip)
    text = "".join([stream.push(token) for token in ids] + [stream.flush()])
    assert text == tokenizer.decode(ids, skip) == tokenizer.backend.decode(ids, skip_special_tokens=skip)


def test_an_emoji_appears_with_its_last_byte():
    stream = make("bytes").stream()
    assert [stream.push(4 + byte) for byte in "🙂".encode()] == ["", "", "", "🙂"]
    assert [stream.push(4 + byte) for byte in "🙂".encode()[:3]] == ["", "", ""]
    assert stream.flush() == "\ufffd" and stream.flush() == ""
    assert stream.push(torch.tensor(4 + ord("a"))) == "a"  # usable again


def test_saved_tokenizers_load_the_same(tokenizer, tmp_path):
    for _ in range(2):  # the second time in place
        tokenizer.save_pretrained(tmp_path)
        loaded = LEDTokenizerWrapper(tmp_path)
        assert len(loaded) == len(tokenizer) and loaded._is_bytes == tokenizer._is_bytes
        np.testing.assert_array_equal(loaded.encode(TEXTS[1]), tokenizer.encode(TEXTS[1]))
        tokenizer = pickle.loads(pickle.dumps(loaded))  # as worker processes get it
    refused("cannot save the tokenizer", tokenizer.save_pretrained, tmp_path / "tokenizer.json")


@pytest.mark.parametrize("bad", [3, None, b"bytes", ["a", 3], [["a"]], {"a": 1}, [], (), b""])
def test_tokenize_wants_texts(bad):
    refused(r"texts", unchecked(make("bytes").tokenize), bad)


def test_tokenize_wants_room_and_equal_lengths():
    tokenizer = make("bytes")
    for max_length, add_eos in [(0, False), (1, True), (-5, False)]:
        refused("max_length", tokenizer.tokenize, "a", max_length=max_length, add_eos=add_eos)
    refused("padding=True", tokenizer.tokenize, ["a", "ab"], padding=False)


def test_lone_surrogates_are_named(tokenizer):
    refused(r"U\+D800\) at character 1", tokenizer.encode, "a\ud800")
    refused("surrogate", tokenizer.tokenize, ["fine", "\udfff"])
    refused("surrogate", LEDTokenizerWrapper.train, ["fine", "\udfff"], 300)
    refused("got bytes", unchecked(tokenizer.encode_all), [b"a"])


def test_ids_outside_the_vocabulary(tokenizer):
    for bad in (-1, tokenizer.vocab_size, 2**40):
        refused(f"token id {bad} is outside the vocabulary", tokenizer.decode, [5, bad])
        refused(f"token id {bad}", tokenizer.stream().push, bad)
    two_rows = [[[1, 2]], [[1], [2, 3]], torch.ones(1, 2, dtype=torch.int64)]
    for bad in (*two_rows, 5, [0.5], "ab", [True], [2**70]):
        refused("one row of integer ids", unchecked(tokenizer.decode), bad)
