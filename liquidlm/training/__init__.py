"""Training: text and settings become a trained model (optimisers, processes, checkpoints, loop, progress)."""
