"""A trained model behind an HTTP API and a page: `liquidlm serve` (extra `serve`)."""
