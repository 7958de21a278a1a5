"""The whole model, and then its stages by hand.

    python examples/parts.py [FOLDER]

FOLDER holds a tokenizer with at most 32,000 entries. Without FOLDER the program trains a small tokenizer on
the documentation that comes with Python. (LED's own tokenizer has 50,265 entries and needs a model with that
vocab_size.)

Sizes: B rows of text, T tokens, E = 512 embedding, Z = 128 reduced, H = 256 hidden, V = 32,000 vocabulary.
"""

import sys

import torch
from torch import Tensor, nn

from liquidlm import (
    AsyncLiquidCell,
    LEDTokenizerWrapper,
    LiquidTextGenerationModel,
    OptimizedLiquidEmbeddingMFR,
    generate_timestamps,
)
from liquidlm.text.builtin import builtin_documents

VOCAB, EMBEDDING, LATENT, HIDDEN = 32000, 512, 128, 256


def main(folder: str | None = None) -> None:
    torch.manual_seed(0)
    tokenizer = load_tokenizer(folder)
    input_ids, attention_mask = tokenizer.tokenize("Texto de ejemplo")  # (B, T) each
    batch_size, seq_length = input_ids.shape
    timestamps = generate_timestamps(batch_size, seq_length)  # (B, T): when each token happens, 0, 1, 2, …
    t_span = torch.linspace(0, 1, steps=5)  # the times of the ODE in the embedding stage
    whole_model(input_ids, attention_mask, t_span, timestamps)
    stages_by_hand(input_ids, attention_mask, t_span, timestamps)


def load_tokenizer(folder: str | None) -> LEDTokenizerWrapper:
    if folder is not None:
        return LEDTokenizerWrapper(folder)
    return LEDTokenizerWrapper.train((document.text for document in builtin_documents()), 8000)


def whole_model(input_ids: Tensor, attention_mask: Tensor, t_span: Tensor, timestamps: Tensor) -> None:
    model = LiquidTextGenerationModel(VOCAB, EMBEDDING, LATENT, HIDDEN)
    output = model(input_ids, attention_mask, t_span, timestamps)
    print("logits", tuple(output.logits.shape), "log_det", tuple(output.log_det.shape))


def stages_by_hand(input_ids: Tensor, attention_mask: Tensor, t_span: Tensor, timestamps: Tensor) -> None:
    liquid_embedding = OptimizedLiquidEmbeddingMFR(VOCAB, EMBEDDING, LATENT, HIDDEN)
    liquid_cell = AsyncLiquidCell(HIDDEN)
    output_proj = nn.Linear(HIDDEN, VOCAB)

    # 1. Token ids become vectors: embedding, flow, ODE.  x (B, T, H), log_det (B, T)
    x, log_det = liquid_embedding(input_ids, attention_mask, t_span)
    # 2. The cell reads the vectors at their times, from an initial state (B, H).  h (B, T, H)
    h, attn_weights = liquid_cell(x, timestamps, torch.zeros(len(x), HIDDEN))
    # 3. A linear layer gives the scores of the next token.  logits (B, T, V)
    logits = output_proj(h)

    print("by hand:", tuple(x.shape), tuple(log_det.shape), tuple(h.shape), tuple(logits.shape))
    assert attn_weights is None  # the cell returns them with need_weights=True


if __name__ == "__main__":
    main(*sys.argv[1:2])
