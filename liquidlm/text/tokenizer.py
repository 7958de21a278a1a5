"""Text ⇄ token ids, lossless for every text.

Three differences from LED's own tokenizer, because this one feeds a model that continues text:

- a prompt is `<s> text`; LED adds `</s>`, and generation would begin after the end;
- padding is on the left, so that the last column is the last token of every row;
- special tokens are not recognized in a text: the characters "</s>" in a document are just characters.
"""

import builtins
import itertools
import operator
import reprlib
from collections.abc import Iterable, Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import SupportsIndex

import numpy as np
import torch
from jaxtyping import Int32, Int64
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ..errors import LiquidError, first_line
from .byte_level import (
    BOS,
    EOS,
    MASK,
    PAD,
    SPECIAL_TOKENS,
    UNK,
    adapt,
    byte_characters,
    token_bytes,
    transformers_tokenizer,
)
from .chat import TEMPLATE, LiquidTokenizer, chat_template
from .cutting import PIECE, pieces
from .token_ids import IdRow, IdRows, StreamDecoder, checked_ids
from .tokenizer_files import HELP, load_tokenizer
from .tokenizer_training import train_bpe
from .utf8 import text_bytes

PART = 1 << 16
"""Characters of a text in one of its parts, about."""
# Brackets, runs of spaces, both Unicode forms of é, control characters, special tokens: what a lossy
# pre-tokenizer would drop, change or claim.
PROBE = f" \t \n\n a  Bc, é e\u0301 \x00\x1f\u00a0🙂[1]\r\n\u3000{' '.join(SPECIAL_TOKENS)}  "


class LEDTokenizerWrapper:
    """A byte-level BPE tokenizer with LED's special tokens.

    Their ids are `<s>` 0, `<pad>` 1, `</s>` 2 and `<unk>` 3; `<mask>` comes last. For every `text` that UTF-8
    can express, `decode(encode(text)) == text`.

    >>> tokenizer = LEDTokenizerWrapper.bytes()
    >>> tokenizer.encode("año").tolist()
    [101, 199, 181, 115]
    >>> tokenizer.decode(tokenizer.encode("año"))
    'año'
    >>> input_ids, attention_mask = tokenizer.tokenize(["a", "abc"])
    >>> input_ids.tolist()
    [[1, 1, 0, 101], [0, 101, 102, 103]]

    Args:
        pretrained_model_name: a folder with `tokenizer.json` or `vocab.json` + `merges.txt`, or an id on the
            Hugging Face hub (a cached copy is used as it is), or a `tokenizers.Tokenizer`, which is changed
            in place. It must be a byte-level BPE (LED, BART, RoBERTa, GPT-2, …). Missing special tokens are
            appended to its vocabulary. Only data is read: no code, no pickle.

    Attributes:
        vocab_size: the number of ids, special tokens included; also `len(tokenizer)`.
        bos_token_id, pad_token_id, eos_token_id, unk_token_id, mask_token_id: ids of the special tokens.

    Raises:
        LiquidError: there is no tokenizer of this name, or it would lose text.
    """

    def __init__(
        self, pretrained_model_name: str | PathLike[str] | Tokenizer = "allenai/led-base-16384"
    ) -> None:
        if isinstance(pretrained_model_name, Tokenizer):
            name, tokenizer, template = "this tokenizer", pretrained_model_name, TEMPLATE
        else:
            name, tokenizer = repr(str(pretrained_model_name)), load_tokenizer(pretrained_model_name)
            template = chat_template(pretrained_model_name)
        adapt(tokenizer)
        added = tokenizer.get_added_tokens_decoder()
        vocab = tokenizer.get_vocab()
        self.bos_token_id, self.pad_token_id, self.eos_token_id, self.unk_token_id, self.mask_token_id = (
            vocab[token] for token in SPECIAL_TOKENS
        )
        self._token_bytes = token_bytes(vocab, added)
        self._text_bytes = self._token_bytes.copy()  # the same without special tokens
        for index, token in added.items():
            if token.special:
                self._text_bytes[index] = b""
        self.vocab_size = len(self._token_bytes)
        self._byte_ids = np.array([vocab.get(char, -1) for char in byte_characters()], dtype=np.int32)
        self._is_bytes = max(map(len, self._text_bytes)) == 1  # no merges: each byte is a token
        words = tokenizer.pre_tokenizer
        # A text may be cut if words are split by GPT-2's rule and no added token is searched in the text.
        self._can_cut = isinstance(words, ByteLevel) and words.use_regex
        self._can_cut &= all(token.special for token in added.values())
        self._tokenizer = tokenizer
        self._backend = transformers_tokenizer(
            tokenizer, template
        )  # a copy: its calls change truncation and padding
        is_usable = isinstance(tokenizer.model, BPE) and -1 not in self._byte_ids
        is_usable &= sorted(vocab.values()) == list(range(len(vocab)))
        if not is_usable or self.decode(self.encode(PROBE)) != PROBE:
            raise LiquidError(
                f"{name} is not a byte-level BPE with ids 0, 1, 2, …, so it would lose text; {HELP}"
            )

    @classmethod
    def bytes(cls) -> "LEDTokenizerWrapper":
        """A tokenizer of single bytes, for tiny models: byte b has id 4 + b, and `<mask>` is 260."""
        tokens = (BOS, PAD, EOS, UNK, *byte_characters(), MASK)
        tokenizer = Tokenizer(BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=[]))
        tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
        return cls(tokenizer)

    @classmethod
    def train(cls, texts: Iterable[str | Path], vocab_size: int) -> "LEDTokenizerWrapper":
        """A new byte-level BPE tokenizer, learned from texts. The same texts always give the same tokenizer.

        >>> tokenizer = LEDTokenizerWrapper.train(["to be or not to be"], vocab_size=262)
        >>> len(tokenizer), len(tokenizer.encode("to be"))
        (262, 4)

        Args:
            texts: texts, or Paths of text files. A run of more than 1000 characters without white space, such
                as DNA or minified code, is learned from in parts of 1000.
            vocab_size: the number of ids, at least 261. There are fewer if no other pair of neighbours occurs
                twice in the texts.

        Raises:
            LiquidError: `vocab_size` is under 261, there are no texts, or one is not a text.
        """
        return cls(train_bpe(texts, vocab_size))

    @property
    def backend(self) -> LiquidTokenizer:
        """The same tokenizer for the tools of `transformers`: `pipeline`, streamers, `Trainer`.

        Its `chat_template` is that of the folder, which the server uses too.
        """
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
        """A batch of prompts `<s> text`, or of training rows `<s> text </s>`, padded on the left.

        Args:
            text: one text or a batch of B texts.
            max_length: the most tokens per row, special tokens included, if `truncation` is true.
            padding: fill shorter rows with `<pad>`. Without it all rows must have the same length.
            truncation: cut off the end of longer texts; `</s>` is kept.
            add_eos: append `</s>`.

        Returns:
            `input_ids` and `attention_mask` (1 for tokens, 0 for padding), each (B, T).

        Raises:
            LiquidError: `text` is not a text or a list of texts, is an empty list, `max_length` has no room
                for the special tokens, or rows differ in length without padding.
        """
        texts = _checked_texts(text)
        room = max_length - 1 - add_eos
        if truncation and room < 0:
            raise LiquidError(f"max_length {max_length} leaves no room for special tokens; make it larger")
        eos = [self.eos_token_id] if add_eos else []
        bodies = [self.encode(one)[: room if truncation else None].tolist() for one in texts]
        rows = [torch.tensor([self.bos_token_id, *body, *eos]) for body in bodies]
        if not padding and len({len(row) for row in rows}) > 1:
            raise LiquidError(
                "texts of different lengths fit into a tensor only with padding; use padding=True"
            )
        return (
            pad_sequence(rows, batch_first=True, padding_value=self.pad_token_id, padding_side="left"),
            pad_sequence([torch.ones_like(row) for row in rows], batch_first=True, padding_side="left"),
        )

    def encode(self, text: str) -> Int32[np.ndarray, " n"]:
        """The ids of one document of any length, without special tokens.

        Raises:
            LiquidError: `text` is not a text, or has half of a surrogate pair.
        """
        return self.encode_all([text])[0]

    def encode_all(self, texts: Sequence[str]) -> list[Int32[np.ndarray, " n"]]:
        """`encode` of each text, in parallel. Long texts are cut at places that do not change the ids.

        Raises:
            LiquidError: one is not a text, or has half of a surrogate pair.
        """
        utf8 = [text_bytes(text) for text in texts]
        if self._is_bytes:
            return [self._byte_ids[np.frombuffer(one, dtype=np.uint8)] for one in utf8]
        cut = [list(pieces(text, PIECE)) if self._can_cut else [text] for text in texts]
        every = list(itertools.chain(*cut))
        encodings = iter(self._tokenizer.encode_batch_fast(every, add_special_tokens=False))
        return [np.concatenate([np.array(next(encodings).ids, dtype=np.int32) for _ in own]) for own in cut]

    def encode_parts(self, text: str, longest_word: int) -> Iterator[Int32[np.ndarray, " n"]]:
        """The ids of one document in parts, as they are needed: `np.concatenate` of them is `encode`.

        >>> [part.tolist() for part in LEDTokenizerWrapper.bytes().encode_parts("ab", 1000)]
        [[101, 102]]

        Args:
            text: the document.
            longest_word: the most characters without a place where a text may be cut. The memory grows with
                them.

        Raises:
            LiquidError: `text` is not a text, has half of a surrogate pair, or a longer word.
        """
        cuts = self._can_cut and not self._is_bytes
        for part in pieces(text, PART) if cuts else (text,):
            if cuts and len(part) > longest_word + PART:
                raise LiquidError(
                    f"the text has over {longest_word:,} characters without a space or line break in which it"
                    " can be cut: send a text with shorter words"
                )
            yield self.encode(part)

    def decode(self, ids: IdRow, skip_special_tokens: bool = True) -> str:
        """The text of one row of ids, with U+FFFD for bytes that are not UTF-8.

        Args:
            ids: a list, an array or a tensor of integers.
            skip_special_tokens: leave special tokens out; otherwise their names are in the text.

        Raises:
            LiquidError: `ids` is not one row of integers, or an id is outside the vocabulary.
        """
        table = self._text_bytes if skip_special_tokens else self._token_bytes
        indices = checked_ids(ids, self.vocab_size)
        return b"".join(table[index] for index in indices).decode("utf-8", errors="replace")

    def batch_decode(self, batch: IdRows, skip_special_tokens: bool = True) -> list[str]:
        """`decode` of each row.

        Args:
            batch: rows of ids, of any lengths.
            skip_special_tokens: as for `decode`.
        """
        return [self.decode(row, skip_special_tokens) for row in batch]

    def stream(self, skip_special_tokens: bool = True) -> StreamDecoder:
        """A decoder that takes one id at a time.

        >>> tokenizer = LEDTokenizerWrapper.bytes()
        >>> decoder = tokenizer.stream()
        >>> [decoder.push(token) for token in tokenizer.encode("ñ!")]
        ['', 'ñ', '!']
        """
        return StreamDecoder(self._text_bytes if skip_special_tokens else self._token_bytes)

    def token_bytes(self, token_id: SupportsIndex) -> builtins.bytes:
        """The UTF-8 bytes of one token, perhaps a part of a character; of a special token, its name.

        Raises:
            LiquidError: the id is outside the vocabulary.
        """
        (checked,) = checked_ids([operator.index(token_id)], self.vocab_size)
        return self._token_bytes[checked]

    def save_pretrained(self, save_directory: str | PathLike[str]) -> None:
        """Write `tokenizer.json` and `tokenizer_config.json`, for this class and for `AutoTokenizer`.

        Raises:
            LiquidError: the folder cannot be written.
        """
        try:
            Path(save_directory).mkdir(parents=True, exist_ok=True)
            self._backend.save_pretrained(save_directory)
        except OSError as error:
            raise LiquidError(
                f"cannot save the tokenizer in {str(save_directory)!r}: {first_line(error)}"
            ) from error


def _checked_texts(text: object) -> list[str]:
    texts = [text] if isinstance(text, str) else text
    if not isinstance(texts, Sequence) or not all(isinstance(one, str) for one in texts):
        raise LiquidError(f"expected a text (str) or a list of texts, got {reprlib.repr(text)}")
    if not texts:
        raise LiquidError("the list of texts is empty; pass at least one text")
    return list(texts)
