"""The model whole, and then its four stages by hand.

    python examples/parts.py [FOLDER]

FOLDER holds a tokenizer of at most 32,000 entries (LED's own has 50,265: give the model that vocab_size);
without it a small one is learned from the documentation that every Python carries.
"""

import sys

import torch
from torch import nn

from liquidlm import (
    AsyncLiquidCell,
    LEDTokenizerWrapper,
    LiquidTextGenerationModel,
    OptimizedLiquidEmbeddingMFR,
    generate_timestamps,
)
from liquidlm.text.builtin import builtin_documents


def main(folder: str | None = None) -> None:
    torch.manual_seed(0)
    model = LiquidTextGenerationModel(vocab_size=32000, embedding_dim=512, latent_dim=128, hidden_size=256)
    if folder is None:
        tokenizer = LEDTokenizerWrapper.train((document.text for document in builtin_documents()), 8000)
    else:
        tokenizer = LEDTokenizerWrapper(folder)
    input_ids, attention_mask = tokenizer.tokenize("Texto de ejemplo")
    batch_size, seq_length = input_ids.shape
    t_span = torch.linspace(0, 1, steps=5)
    timestamps = generate_timestamps(batch_size, seq_length)

    output = model(input_ids, attention_mask, t_span, timestamps)
    print("logits", tuple(output.logits.shape), "log_det", tuple(output.log_det.shape))

    liquid_embedding = OptimizedLiquidEmbeddingMFR(
        vocab_size=32000, embedding_dim=512, latent_dim=128, hidden_size=256
    )
    liquid_cell = AsyncLiquidCell(hidden_size=256)
    output_proj = nn.Linear(256, 32000)
    h = torch.zeros(batch_size, 256)

    embeddings, log_det = liquid_embedding(input_ids, attention_mask, t_span)
    h, attn_weights = liquid_cell(embeddings, timestamps, h)
    logits = output_proj(h)
    print("by hand:", tuple(embeddings.shape), tuple(log_det.shape), tuple(h.shape), tuple(logits.shape))
    assert attn_weights is None  # on request: need_weights=True


if __name__ == "__main__":
    main(*sys.argv[1:2])
