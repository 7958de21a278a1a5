"""Text and settings ▶ a trained model: optimisers, processes, checkpoints, loop, progress."""
