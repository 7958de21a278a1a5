"""Small models and prompts for the tests of the server's engine."""

import numpy as np
import torch
from helpers import randomise

from liquidlm import LEDTokenizerWrapper, LiquidConfig, LiquidTextGenerationModel

TOKENIZER = LEDTokenizerWrapper.bytes()


def tiny(**options) -> LiquidTextGenerationModel:
    torch.manual_seed(0)
    sizes = {"embedding_dim": 8, "latent_dim": 4, "hidden_size": 16, "num_hidden_layers": 3, "ngram_rows": 40}
    config = LiquidConfig(vocab_size=TOKENIZER.vocab_size, **(sizes | options))
    return randomise(LiquidTextGenerationModel(config), scale=0.1).eval()


def ids(length: int, seed: int = 0) -> np.ndarray:
    drawn = np.random.default_rng(seed).integers(4, 260, length - 1)
    return np.concatenate([[TOKENIZER.bos_token_id], drawn]).astype(np.int64)
