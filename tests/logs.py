"""Logs for tests, and readers of them with small models."""

import torch

from liquidlm import LEDTokenizerWrapper, LiquidTextGenerationModel
from liquidlm.inference.surprise import (
    SurpriseReader,
)
from tests.helpers import randomise

SIZES = {"embedding_dim": 16, "latent_dim": 8, "hidden_size": 32, "num_hidden_layers": 2, "ngram_rows": 64}
TOKENIZERS = {
    "bytes": LEDTokenizerWrapper.bytes(),
    "bpe": LEDTokenizerWrapper.train(["the log goes on and on\nthe line is long\n" * 20], 290),
}


def tiny(tokenizer: LEDTokenizerWrapper, timed: bool, **sizes: float) -> LiquidTextGenerationModel:
    clock = {"time_components": 3, "time_scale": 2.5} if timed else {}
    options = {**SIZES, **sizes, **clock}
    torch.manual_seed(0)
    model = LiquidTextGenerationModel(vocab_size=tokenizer.vocab_size, dropout_rate=0.0, **options)
    return randomise(model, scale=0.1).eval()


def reader(timed: bool = False, name: str = "bytes", **options) -> SurpriseReader:
    tokenizer = TOKENIZERS[name]
    return SurpriseReader(tiny(tokenizer, timed), tokenizer, **options)
