"""An HTTP server for a trained model, with OpenAI's API and a web page: `liquidlm serve` (extra `serve`)."""
