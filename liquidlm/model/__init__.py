"""The model: its configuration, its forward pass, transformers' hooks, and its step of one token."""
