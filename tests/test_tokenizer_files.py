"""Tokenizers on disk and on the hub."""

import json
from pathlib import Path

import numpy as np
from huggingface_hub.errors import LocalEntryNotFoundError
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from tokenizers_for_tests import TEXTS, make, refused, rust

from liquidlm.text import tokenizer_files as module
from liquidlm.text.byte_level import byte_characters
from liquidlm.text.tokenizer import LEDTokenizerWrapper
from tests import warm

RELOAD = """
import json, sys
from transformers import AutoTokenizer
from liquidlm.text.tokenizer import LEDTokenizerWrapper
folder, text = sys.argv[1], sys.stdin.buffer.read().decode()
auto, ours = AutoTokenizer.from_pretrained(folder), LEDTokenizerWrapper(folder)
batch = auto([text, "a"], padding=True)
print(json.dumps([dict(batch), auto.decode(auto(text)["input_ids"], skip_special_tokens=True),
    [t.tolist() for t in ours.tokenize([text, "a"])], len(auto)]))
"""


def test_saved_tokenizers_load_the_same_in_a_fresh_process(tmp_path):
    tokenizer, text = make("bpe"), "  The <s> loop</s>\n\n runs e\u0301 🙂 <mask> "
    tokenizer.save_pretrained(tmp_path / "new" / "folder")
    done = warm.run([tmp_path / "new" / "folder"], text.encode(), program=RELOAD, env={"HF_HUB_OFFLINE": "1"})
    assert done.returncode == 0, done.stderr
    auto, decoded, ours, size = json.loads(done.stdout)
    expected = [t.tolist() for t in tokenizer.tokenize([text, "a"])]
    assert auto == {"input_ids": expected[0], "attention_mask": expected[1]}
    assert decoded == text and ours == expected and size == len(tokenizer)


def write_vocab_and_merges(folder: Path) -> None:
    make("bpe").backend.backend_tokenizer.model.save(str(folder))


def test_vocab_and_merges_without_special_tokens_get_them_appended(tmp_path):
    write_vocab_and_merges(tmp_path)  # <mask> is not in them
    assert LEDTokenizerWrapper(tmp_path).encode(TEXTS[1]).tolist() == make("bpe").encode(TEXTS[1]).tolist()
    vocab = {char: index for index, char in enumerate(byte_characters())}  # as GPT-2
    (tmp_path / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    loaded = LEDTokenizerWrapper(tmp_path)
    assert (loaded.bos_token_id, loaded.pad_token_id, loaded.mask_token_id) == (256, 257, 260)
    assert loaded.tokenize(["<s>", ""])[0].tolist() == [[256, *b"<s>"], [257] * 3 + [256]]


def test_anybodys_settings_are_replaced_where_they_lose_text(tmp_path):
    theirs = rust()
    theirs.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    theirs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    theirs.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)])
    theirs.enable_truncation(3)
    theirs.enable_padding(length=7)
    theirs.save(str(tmp_path / "tokenizer.json"))
    text = "Cafe\u0301 AND <s>"
    loaded = LEDTokenizerWrapper(tmp_path)
    np.testing.assert_array_equal(loaded.encode(text), make("bpe").encode(text))
    assert loaded.backend(text)["input_ids"] == [0, *loaded.encode(text)]


class FakeHub:
    """A repository with vocab.json and merges.txt, as it looks from `huggingface_hub`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.cached, self.asked = folder, set(), 0

    def model_info(self, name, timeout):
        assert 0 < timeout <= 15
        self.asked += 1
        files = [type("Entry", (), {"rfilename": path.name}) for path in self.folder.iterdir()]
        return type("Info", (), {"siblings": files})

    def download(self, name, file, local_files_only=False):
        if local_files_only and file not in self.cached:
            raise LocalEntryNotFoundError("not in the cache")
        self.cached.add(file)
        return str(self.folder / file)


def test_the_hub_is_asked_once_and_then_the_cache_is_used(tmp_path, monkeypatch):
    write_vocab_and_merges(tmp_path)
    hub = FakeHub(tmp_path)
    monkeypatch.setattr(module, "HfApi", lambda: hub)
    monkeypatch.setattr(module, "hf_hub_download", hub.download)
    for _ in range(2):
        assert len(LEDTokenizerWrapper("somebody/led")) == 600
        assert hub.asked == 1


def test_without_a_network_one_line_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for name in ("allenai/led-base-16384", "./no/such/folder", Path("no-such-folder")):
        refused(r"\A'.+' is not a folder here.*network.*vocab\.json.*\Z", LEDTokenizerWrapper, name)


def test_folders_without_a_usable_tokenizer(tmp_path):
    refused(r"no tokenizer in the folder .*tokenizer.json", LEDTokenizerWrapper, tmp_path)
    (tmp_path / "vocab.json").write_text("{}")
    refused("no tokenizer in the folder", LEDTokenizerWrapper, tmp_path)  # merges.txt is missing
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    refused("not a byte-level BPE", LEDTokenizerWrapper, tmp_path)
    (tmp_path / "vocab.json").write_text("{broken")
    refused(r"vocab.json \+ .*merges.txt cannot be read", LEDTokenizerWrapper, tmp_path)
    (tmp_path / "tokenizer.json").write_text("{broken")
    refused(r"tokenizer\.json cannot be read", LEDTokenizerWrapper, tmp_path)


def test_tokenizers_that_lose_text_are_refused():
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words = rust()
    words.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), byte_level])
    gaps = json.loads(rust().to_str())
    gaps["model"]["vocab"]["far"] = 10_000
    others = [models.WordPiece({"[UNK]": 0, "a": 1}, unk_token="[UNK]"), models.Unigram([("a", 0.0)])]
    for lossy in (words, Tokenizer.from_str(json.dumps(gaps)), *map(Tokenizer, others)):
        refused("not a byte-level BPE", LEDTokenizerWrapper, lossy)
