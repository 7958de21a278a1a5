"""Text ⇄ token ids: byte-level BPE with LED's special tokens, lossless for every string.

Byte-level BPE (Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section 2.2)
writes each byte of the UTF-8 text as one printable character and merges frequent neighbours, so no text is
unknown. RoBERTa, BART and LED (Beltagy et al. 2020, arXiv:2004.05150) share one such vocabulary.

Three departures from LED's own tokenizer, all because this one feeds a model that continues text:
  * a prompt is `<s> text`; LED appends `</s>`, and generation would start after the end;
  * padding is on the left, so that the last column is the last token of every row;
  * special tokens are never read out of a text: the characters "</s>" in a document are just characters.
"""

import builtins
import codecs
import contextlib
import itertools
import operator
import re
import reprlib
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import SupportsIndex

import numpy as np
import torch
from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import LocalEntryNotFoundError
from jaxtyping import Int, Int32, Int64, Integer
from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import TokenizersBackend

from ..errors import LiquidError
from .corpus import read_documents
from .cutting import PIECE, pieces
from .utf8 import encoded

IdRow = Sequence[int] | Integer[np.ndarray, " n"] | Int[Tensor, " n"]
IdRows = Sequence[IdRow] | Integer[np.ndarray, "b n"] | Int[Tensor, "b n"]

BOS, PAD, EOS, UNK, MASK = SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
MIN_VOCAB_SIZE = 256 + len(SPECIAL_TOKENS)  # every byte has a token, so every text can be written

_FILES = (["tokenizer.json"], ["vocab.json", "merges.txt"])  # either will do; the first is preferred
_HELP = (
    "pass a folder with tokenizer.json or vocab.json + merges.txt, or make a tokenizer with "
    "LEDTokenizerWrapper.bytes() or LEDTokenizerWrapper.train(texts, vocab_size)"
)
LONGEST_WORD = 1000
"""Characters of a word, at most, to learn from: the time that learning takes grows with their square."""
_LONG = re.compile(rf"\S{{{LONGEST_WORD + 1}}}|\s{{{LONGEST_WORD + 1}}}")
# Brackets, runs of spaces, both Unicode forms of é, control characters, special tokens: what a lossy
# pre-tokeniser would drop, change or claim.
_PROBE = f" \t \n\n a  Bc, é e\u0301 \x00\x1f\u00a0🙂[1]\r\n\u3000{' '.join(SPECIAL_TOKENS)}  "


class StreamDecoder:
    """Text from token ids, one at a time, at constant cost per token.

    A token may end inside a UTF-8 character. `push` keeps such bytes back until the character is complete,
    so the pieces can be printed as they come; all pieces and `flush()` together equal `decode` of all ids.
    """

    def __init__(self, token_bytes: Sequence[bytes]) -> None:
        """`token_bytes[id]` is the UTF-8 that a token stands for."""
        self._token_bytes = token_bytes
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token_id: SupportsIndex) -> str:
        """The characters that this token completes, often none. LiquidError: an id outside the vocabulary."""
        (checked,) = _checked_ids([operator.index(token_id)], len(self._token_bytes))
        return self._utf8.decode(self._token_bytes[checked])

    def flush(self) -> str:
        """What remains: U+FFFD where the last character was never completed, else nothing."""
        return self._utf8.decode(b"", final=True)


class LEDTokenizerWrapper:
    """Text ⇄ ids with LED's special tokens: `<s>` 0, `<pad>` 1, `</s>` 2, `<unk>` 3, and `<mask>` last.

    For every `text` that UTF-8 can express, `decode(encode(text)) == text`.

    Args:
        pretrained_model_name: a folder with `tokenizer.json` or `vocab.json` + `merges.txt`, or an id on the
            Hugging Face hub (a cached copy is used as it is), or a `tokenizers.Tokenizer`, which is taken
            over. It must be a byte-level BPE (LED, BART, RoBERTa, GPT-2, …); of LED's special tokens, those
            it lacks are appended to its vocabulary. Only these files are read: no code, no pickle.

    Attributes:
        vocab_size: number of ids, special tokens included; also `len(tokenizer)`.
        bos_token_id, pad_token_id, eos_token_id, unk_token_id, mask_token_id: ids of the special tokens.

    Raises:
        LiquidError: nothing usable under that name, or a tokenizer that would lose text.
    """

    def __init__(
        self, pretrained_model_name: str | PathLike[str] | Tokenizer = "allenai/led-base-16384"
    ) -> None:
        if isinstance(pretrained_model_name, Tokenizer):
            name, tokenizer = "this tokenizer", pretrained_model_name
        else:
            name, tokenizer = repr(str(pretrained_model_name)), _read(_find(pretrained_model_name))
        _adapt(tokenizer)
        added = tokenizer.get_added_tokens_decoder()
        vocab = tokenizer.get_vocab()
        self.bos_token_id, self.pad_token_id, self.eos_token_id, self.unk_token_id, self.mask_token_id = (
            vocab[token] for token in SPECIAL_TOKENS
        )
        self._token_bytes = _token_bytes(vocab, added)
        self._text_bytes = self._token_bytes.copy()  # what is left of it without special tokens
        for index, token in added.items():
            if token.special:
                self._text_bytes[index] = b""
        self.vocab_size = len(self._token_bytes)
        self._byte_ids = np.array([vocab.get(char, -1) for char in _byte_characters()], dtype=np.int32)
        self._is_bytes = max(map(len, self._text_bytes)) == 1  # no merges: each byte is a token
        words = tokenizer.pre_tokenizer
        # Words by GPT-2's rule, and nothing else that looks for something in a text:
        self._can_cut = isinstance(words, ByteLevel) and words.use_regex
        self._can_cut &= all(token.special for token in added.values())
        self._tokenizer = tokenizer
        self._backend = _backend(tokenizer)  # with a copy: its calls leave their truncation and padding set
        is_usable = isinstance(tokenizer.model, BPE) and -1 not in self._byte_ids
        is_usable &= sorted(vocab.values()) == list(range(len(vocab)))
        if not is_usable or self.decode(self.encode(_PROBE)) != _PROBE:
            raise LiquidError(f"{name} is no byte-level BPE with ids 0, 1, 2, …, so it loses text; {_HELP}")

    @classmethod
    def bytes(cls) -> "LEDTokenizerWrapper":
        """The 256 bytes and no merges, for tiny models: byte b has id 4 + b, `<mask>` is 260."""
        tokens = (BOS, PAD, EOS, UNK, *_byte_characters(), MASK)
        tokenizer = Tokenizer(BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=[]))
        tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
        return cls(tokenizer)

    @classmethod
    def train(cls, texts: Iterable[str | Path], vocab_size: int) -> "LEDTokenizerWrapper":
        """A new byte-level BPE learned from texts, or from the files that Paths among them name.

        The same texts always give the same tokenizer.

        It has exactly `vocab_size` ids, or fewer if no pair of neighbours is left that occurs twice. Of a run
        of characters without white space, such as DNA or minified code, it learns in parts of LONGEST_WORD.

        Raises:
            LiquidError: `vocab_size` below 261, no texts, or one that is none.
        """
        if isinstance(texts, str):
            raise LiquidError("train() takes an iterable of texts, not one string; pass [text]")
        if vocab_size < MIN_VOCAB_SIZE:
            raise LiquidError(f"vocab_size {vocab_size} is too small; it must be at least {MIN_VOCAB_SIZE}")
        tokenizer = Tokenizer(BPE())
        tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
        trainer = BpeTrainer(
            vocab_size=vocab_size - 1,  # the constructor appends <mask>
            min_frequency=2,
            special_tokens=[BOS, PAD, EOS, UNK],
            initial_alphabet=ByteLevel.alphabet(),
            show_progress=False,
        )
        _in_background(lambda: tokenizer.train_from_iterator(_training_pieces(texts), trainer))
        return cls(tokenizer)

    @property
    def backend(self) -> TokenizersBackend:
        """The same tokenizer for the tools of `transformers`: `pipeline`, streamers, `Trainer`."""
        return self._backend

    def __len__(self) -> int:
        return self.vocab_size

    def tokenize(
        self,
        text: str | Sequence[str],
        max_length: int = 16384,
        padding: bool = True,
        truncation: bool = True,
        add_eos: bool = False,
    ) -> tuple[Int64[Tensor, "b t"], Int64[Tensor, "b t"]]:
        """Prompts or training rows: `<s> text`, or `<s> text </s>` with `add_eos`, padded on the left.

        Args:
            text: one text or a batch of B texts.
            max_length: with `truncation`, the most tokens per row, special ones included; the text's end is
                cut off, `</s>` is not.
            padding: fill shorter rows with `<pad>`. Without it all rows must have the same length.

        Returns:
            `input_ids` and `attention_mask` (1 for tokens, 0 for padding), each (B,T).

        Raises:
            LiquidError: not a text or texts, none at all, or rows of different lengths without padding.
        """
        texts = _checked_texts(text)
        room = max_length - 1 - add_eos
        if truncation and room < 0:
            raise LiquidError(f"max_length {max_length} leaves no room for special tokens; make it larger")
        eos = [self.eos_token_id] if add_eos else []
        bodies = [self.encode(one)[: room if truncation else None].tolist() for one in texts]
        rows = [torch.tensor([self.bos_token_id, *body, *eos]) for body in bodies]
        if not padding and len({len(row) for row in rows}) > 1:
            raise LiquidError("texts of different lengths make no tensor without padding; use padding=True")
        return (
            pad_sequence(rows, batch_first=True, padding_value=self.pad_token_id, padding_side="left"),
            pad_sequence([torch.ones_like(row) for row in rows], batch_first=True, padding_side="left"),
        )

    def encode(self, text: str) -> Int32[np.ndarray, " n"]:
        """The ids of one whole document, of any length, without special tokens."""
        return self.encode_all([text])[0]

    def encode_all(self, texts: Sequence[str]) -> list[Int32[np.ndarray, " n"]]:
        """`encode` of each, in parallel; long texts are cut where the result stays exactly the same."""
        utf8 = [_utf8(text) for text in texts]
        if self._is_bytes:
            return [self._byte_ids[np.frombuffer(one, dtype=np.uint8)] for one in utf8]
        cut = [list(pieces(text, PIECE)) if self._can_cut else [text] for text in texts]
        every = list(itertools.chain(*cut))
        encodings = iter(self._tokenizer.encode_batch_fast(every, add_special_tokens=False))
        return [np.concatenate([np.array(next(encodings).ids, dtype=np.int32) for _ in own]) for own in cut]

    def decode(self, ids: IdRow, skip_special_tokens: bool = True) -> str:
        """The text of one row of ids, with U+FFFD for bytes that are not UTF-8.

        Raises:
            LiquidError: not one row of integers, or an id outside the vocabulary.
        """
        token_bytes = self._text_bytes if skip_special_tokens else self._token_bytes
        indices = _checked_ids(ids, self.vocab_size)
        return b"".join(token_bytes[index] for index in indices).decode("utf-8", errors="replace")

    def batch_decode(self, batch: IdRows, skip_special_tokens: bool = True) -> list[str]:
        """`decode` of each row."""
        return [self.decode(row, skip_special_tokens) for row in batch]

    def stream(self, skip_special_tokens: bool = True) -> StreamDecoder:
        """A decoder that takes one id at a time."""
        return StreamDecoder(self._text_bytes if skip_special_tokens else self._token_bytes)

    def token_bytes(self, token_id: SupportsIndex) -> builtins.bytes:
        """The UTF-8 that one token stands for, perhaps a part of a character; of a special token its name."""
        (checked,) = _checked_ids([operator.index(token_id)], self.vocab_size)
        return self._token_bytes[checked]

    def save_pretrained(self, save_directory: str | PathLike[str]) -> None:
        """Write `tokenizer.json` and `tokenizer_config.json`, for this class and for `AutoTokenizer`."""
        try:
            Path(save_directory).mkdir(parents=True, exist_ok=True)
            self._backend.save_pretrained(save_directory)
        except OSError as error:
            raise LiquidError(f"cannot save the tokenizer in {str(save_directory)!r}: {error}") from error


def _find(name: str | PathLike[str]) -> list[Path]:
    """The tokenizer's files in a folder of that name, else on the hub."""
    folder = Path(name)
    if not folder.is_dir():
        return _find_on_hub(str(name))
    for files in _FILES:
        if all((folder / file).is_file() for file in files):
            return [folder / file for file in files]
    raise LiquidError(f"no tokenizer in the folder {str(name)!r}; {_HELP}")


def _find_on_hub(name: str) -> list[Path]:
    """The files in the hub's local cache, else downloaded into it."""
    try:
        for files in _FILES:
            with contextlib.suppress(LocalEntryNotFoundError):
                return [Path(hf_hub_download(name, file, local_files_only=True)) for file in files]
        # One question with a time limit: without a network the download itself would retry for a minute.
        listing = HfApi().model_info(name, timeout=10.0).siblings or []
        has_json = any(entry.rfilename == "tokenizer.json" for entry in listing)
        return [Path(hf_hub_download(name, file)) for file in _FILES[0 if has_json else 1]]
    except Exception as error:  # whatever the network and the hub may answer, the user's choices are the same
        raise LiquidError(
            f"{name!r} is no folder here, and the Hugging Face hub gave no tokenizer of that name "
            f"({type(error).__name__}); check name and network, or {_HELP}"
        ) from error


def _read(files: list[Path]) -> Tokenizer:
    try:
        if len(files) == 1:
            return Tokenizer.from_file(str(files[0]))
        vocab, merges = BPE.read_file(*map(str, files))
        tokenizer = Tokenizer(BPE(vocab=vocab, merges=merges))
    except Exception as error:  # tokenizers raises nothing more specific
        raise LiquidError(f"{' + '.join(map(str, files))} cannot be read ({error}); {_HELP}") from error
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    return tokenizer


def _adapt(tokenizer: Tokenizer) -> None:
    """Our conventions (see the top of the file) on anybody's byte-level BPE, in place."""
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.normalizer = None
    if isinstance(words := tokenizer.pre_tokenizer, ByteLevel):
        tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False, use_regex=words.use_regex)
    tokenizer.decoder = ByteLevelDecoder()
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))  # those that have an id keep it
    tokenizer.encode_special_tokens = True  # as the characters they are
    tokenizer.post_processor = TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )


def _backend(tokenizer: Tokenizer) -> TokenizersBackend:
    return TokenizersBackend(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        pad_token=PAD,
        eos_token=EOS,
        unk_token=UNK,
        mask_token=MASK,
        padding_side="left",
        split_special_tokens=True,
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
    )


def _byte_characters() -> list[str]:
    """The character that byte-level BPE writes for each byte 0…255.

    188 bytes are printable in Latin-1 and stand for themselves; the others take U+0100, U+0101, … in order.
    """
    alphabet = sorted(ByteLevel.alphabet())
    others = (char for char in alphabet if ord(char) > 255)
    return [chr(byte) if chr(byte) in alphabet else next(others) for byte in range(256)]


def _token_bytes(vocab: dict[str, int], added: dict[int, AddedToken]) -> list[bytes]:
    """The UTF-8 that each id stands for; a special token stands for its name."""
    byte_of = {char: byte for byte, char in enumerate(_byte_characters())}
    table = [b""] * (1 + max(vocab.values()))
    for token, index in vocab.items():
        is_text = index in added or not byte_of.keys() >= set(token)
        table[index] = token.encode() if is_text else bytes(byte_of[char] for char in token)
    return table


def _training_pieces(texts: Iterable[str | Path]) -> Iterator[str]:
    is_empty = True
    for text in _each_text(texts):
        is_empty = False
        _utf8(text)
        for piece in pieces(text, PIECE):
            step = LONGEST_WORD if _LONG.search(piece) else max(1, len(piece))
            yield from (piece[start : start + step] for start in range(0, len(piece), step))
    if is_empty:
        raise LiquidError("no texts to train on; if they came from a generator, it may be used up")


def _in_background(work: Callable[[], object]) -> None:
    """Do work that is deaf to signals, and hear them meanwhile: Ctrl-C goes on without it."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(0.1)
    if failed:
        raise failed[0]


def _each_text(texts: Iterable[str | Path]) -> Iterator[str]:
    for text in texts:
        if isinstance(text, Path):
            yield from (document.text for document in read_documents(text))
        else:
            yield text


def _utf8(text: object) -> bytes:
    """The text's bytes, if it is a text and has any."""
    if not isinstance(text, str):
        raise LiquidError(f"expected a text (str), got {type(text).__name__}")
    return encoded(text, "the text")


def _checked_texts(text: object) -> list[str]:
    texts = [text] if isinstance(text, str) else text
    if not isinstance(texts, Sequence) or not all(isinstance(one, str) for one in texts):
        raise LiquidError(f"expected a text (str) or a list of texts, got {reprlib.repr(text)}")
    if not texts:
        raise LiquidError("an empty list of texts makes no batch; pass at least one text")
    return list(texts)


def _checked_ids(ids: object, vocab_size: int) -> list[int]:
    """One row of ids as plain integers, each within the vocabulary."""
    try:
        row = np.asarray(ids.cpu() if isinstance(ids, Tensor) else ids)
    except ValueError:  # rows of different lengths
        row = np.empty((0, 0))
    if row.ndim != 1 or (row.size and row.dtype.kind not in "iu"):
        raise LiquidError("decode takes one row of integer ids; use batch_decode for several rows")
    outside = row[(row < 0) | (row >= vocab_size)]
    if outside.size:
        raise LiquidError(
            f"token id {outside[0]} is outside the vocabulary of {vocab_size}; "
            "decode with the tokenizer that the model was trained with"
        )
    return [int(index) for index in row]
