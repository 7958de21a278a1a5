"""`liquidlm train --dry-run`: what a run will cost, measured over a few of its steps."""

import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ..errors import LiquidError
from ..inference.model_folders import model_folder
from ..runtime.memory import peak_memory
from .processes import processes
from .settings import TrainSettings
from .start_checks import check_start
from .text import prepare
from .trainer import Trainer

WARM_UP, MEASURED = 1, 3
"""Steps before the measurement, and steps measured."""


@dataclass(frozen=True)
class Cost:
    """What a run will cost on this machine.

    Attributes:
        parameters: of the model.
        tokens, text_bytes: of the training text.
        vocabulary: tokens that the tokenizer knows.
        tokens_per_step: tokens that a step reads.
        seconds_per_step: mean of MEASURED steps.
        memory: peak in bytes: of the GPU, or on a CPU of the whole process.
        device: where it was measured.
    """

    parameters: int
    tokens: int
    text_bytes: int
    vocabulary: int
    tokens_per_step: int
    seconds_per_step: float
    memory: int
    device: torch.device

    def steps(self, settings: TrainSettings) -> int:
        """Steps of the run: those asked for, or those that fit into its minutes."""
        if settings.steps is not None:
            return settings.steps
        return max(1, round(60 * (settings.minutes or 1.0) / self.seconds_per_step))

    def lines(self, settings: TrainSettings) -> list[str]:
        """The cost as lines for the user."""
        steps, rate = self.steps(settings), self.tokens_per_step / self.seconds_per_step
        minutes, passes = steps * self.seconds_per_step / 60, steps * self.tokens_per_step / self.tokens
        where = "GPU memory" if self.device.type == "cuda" else "memory of the process"
        return [
            f"text: {self.tokens:,} tokens, {self.text_bytes:,} bytes, vocabulary {self.vocabulary:,}",
            f"model: {self.parameters:,} parameters",
            f"memory: {self.memory / 1e9:.2f} GB (peak {where} over {WARM_UP + MEASURED} steps)",
            f"speed: {self.seconds_per_step:.3f} s per step of {self.tokens_per_step:,} tokens,"
            f" {rate:,.0f} tokens/s on {self.device} (mean of {MEASURED} steps)",
            f"run: {steps:,} steps, about {minutes:.1f} minutes, about {passes:.2f} passes over the text."
            " Evaluations and checkpoints take part of a run by --minutes, and add to a run by --steps.",
        ]


def measure_cost(settings: TrainSettings, device: torch.device | None = None) -> Cost:
    """Read the text, build the model, train a few steps, and keep nothing of it.

    A large text is tokenized into the cache, where the run itself finds it.

    Args:
        settings: of the run.
        device: where to train; None is the GPU, or the CPU if there is none.

    Raises:
        LiquidError: as `train`; text that can be read only once; several processes.
    """
    settings = replace(settings)
    check_start(settings, out=None)
    with processes(device) as alone, tempfile.TemporaryDirectory() as folder:
        if not alone.alone:
            raise LiquidError("--dry-run measures one process: start it without torchrun")
        source = None if settings.source is None else model_folder(settings.source)
        texts = prepare(settings, source)
        trainer = Trainer(settings, texts, Path(folder), alone, source)
        for _ in range(WARM_UP):
            trainer.train_step()
        begin = _now(alone.device)
        for _ in range(MEASURED):
            trainer.train_step()
        seconds = (_now(alone.device) - begin) / MEASURED
    on_gpu = alone.device.type == "cuda"
    return Cost(
        parameters=sum(p.numel() for p in trainer.model.parameters()),
        tokens=texts.train.size,
        text_bytes=texts.train.text_bytes,
        vocabulary=texts.tokenizer.vocab_size,
        tokens_per_step=settings.batch_size * settings.context * settings.accumulate,
        seconds_per_step=seconds,
        memory=torch.cuda.max_memory_allocated(alone.device) if on_gpu else peak_memory(),
        device=alone.device,
    )


def dry_run(settings: TrainSettings, device: torch.device | None = None) -> None:
    """Print what a run of these settings will cost."""
    for line in measure_cost(settings, device).lines(settings):
        print(line)


def _now(device: torch.device) -> float:
    """The time in seconds, after all work that the device was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
