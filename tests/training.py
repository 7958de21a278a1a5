"""What the tests of training share: tiny runs."""

from pathlib import Path

import torch
from safetensors.torch import load_file

from liquidlm.training.processes import Processes
from liquidlm.training.settings import TrainSettings

ALONE = Processes(torch.device("cpu"))
TINY = {"hidden_size": 32, "num_hidden_layers": 2, "embedding_dim": 32, "latent_dim": 8}
TINY |= {"tie_word_embeddings": True}


def settings(text: Path, steps: int | None = 12, **changes: object) -> TrainSettings:
    """A run of a second or two, in float32 and with dropout, so that the random state counts."""
    given = {"paths": [str(text)], "steps": steps, "size": "tiny", "sizes": dict(TINY), "context": 32}
    return TrainSettings(**{**given, "batch_size": 4, "bf16": False, "dropout": 0.1, **changes})  # type: ignore


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")
