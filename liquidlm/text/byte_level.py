"""Byte-level BPE with LED's special tokens: the conventions that every tokenizer here follows.

Byte-level BPE (Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section 2.2)
writes each byte of the UTF-8 text as one printable character and merges frequent neighbours. So no text is
unknown. RoBERTa, BART and LED (Beltagy et al. 2020, arXiv:2004.05150) share one such vocabulary.
"""

from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.processors import TemplateProcessing

from .chat import LiquidTokenizer

BOS, PAD, EOS, UNK, MASK = SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")


def adapt(tokenizer: Tokenizer) -> None:
    """Give any byte-level BPE the conventions of `LEDTokenizerWrapper`, in place.

    No normalizer, padding or truncation; no space is added before the text; special tokens are not recognized
    in a text; ``<s>`` comes first, and ``</s>`` is not added.
    """
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.normalizer = None
    if isinstance(words := tokenizer.pre_tokenizer, ByteLevel):
        tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False, use_regex=words.use_regex)
    tokenizer.decoder = ByteLevelDecoder()
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))  # one that is there keeps its id
    tokenizer.encode_special_tokens = True  # as plain characters
    tokenizer.post_processor = TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )


def transformers_tokenizer(tokenizer: Tokenizer, chat_template: str) -> LiquidTokenizer:
    """A copy of an adapted tokenizer in a class of transformers."""
    return LiquidTokenizer(
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
        chat_template=chat_template,
    )


def byte_characters() -> list[str]:
    """The character that byte-level BPE writes for each byte 0…255.

    188 bytes are printable in Latin-1 and stand for themselves; the others take U+0100, U+0101, … in order.

    >>> characters = byte_characters()
    >>> characters[65], characters[32]
    ('A', 'Ġ')
    """
    alphabet = sorted(ByteLevel.alphabet())
    others = (char for char in alphabet if ord(char) > 255)
    return [chr(byte) if chr(byte) in alphabet else next(others) for byte in range(256)]


def token_bytes(vocab: dict[str, int], added: dict[int, AddedToken]) -> list[bytes]:
    """The UTF-8 bytes of each id; those of a special token are its name.

    Args:
        vocab: the id of each token, special tokens included.
        added: the tokens that are written as they are, not in byte characters, by their ids.
    """
    byte_of = {char: byte for byte, char in enumerate(byte_characters())}
    table = [b""] * (1 + max(vocab.values()))
    for token, index in vocab.items():
        is_text = index in added or not byte_of.keys() >= set(token)
        table[index] = token.encode() if is_text else bytes(byte_of[char] for char in token)
    return table
