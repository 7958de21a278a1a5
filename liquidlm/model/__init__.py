"""Configuration and language model, as transformers has them, and its step of one token."""
