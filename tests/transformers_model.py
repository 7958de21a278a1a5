"""A small model for the tests with transformers."""

SIZES = {"vocab_size": 64, "embedding_dim": 12, "latent_dim": 8, "hidden_size": 16}
SMALL = {
    "flow_hidden_dim": 8,
    "num_flows": 2,
    "num_heads": 2,
    "chunk_size": 8,
    "ngram_rows": 40,
    "dropout_rate": 0.0,
}
