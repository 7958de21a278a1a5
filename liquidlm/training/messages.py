"""The first and last lines of a run."""

import shlex
from pathlib import Path

from ..inference.evaluate import Evaluation
from ..inference.reading_file import save_reading
from ..inference.saving import save_model
from ..runtime.folders import merge_into
from .advice import advice
from .progress import Report, SilentReport
from .trainer import Trainer


def introduce(trainer: Trainer, report: Report | SilentReport) -> None:
    """Print what is trained, on what, and where."""
    parameters = sum(p.numel() for p in trainer.model.parameters())
    text, count = trainer.texts.train, trainer.processes.count
    report.say(
        f"{parameters:,} parameters, vocabulary {trainer.texts.tokenizer.vocab_size:,}, training on"
        f" {text.text_bytes:,} bytes = {text.size:,} tokens, {'bfloat16' if trainer.bf16 else 'float32'}"
        f" on {trainer.device.type}{f', {count} processes' if count > 1 else ''}"
    )
    if trainer.settings.source is not None and trainer.step == 0:
        report.say(f"Fine-tuning {trainer.settings.source}: its weights and tokenizer, a new optimiser.")
        if trainer.model.config.time_components and not trainer.settings.timestamps:
            report.say("note: the model can learn times, but this text is read without them (--timestamps)")
    if trainer.done >= 1:
        report.say(f"This run is finished. To train longer: {longer_command(trainer)}")
    for note in trainer.texts.notes:
        report.say(f"note: {note}")


def resume_command(trainer: Trainer) -> str:
    """The command that continues the run."""
    return f"liquidlm train --resume --out {shlex.quote(str(trainer.folder))}"


def longer_command(trainer: Trainer) -> str:
    """The command that trains the run for twice as long."""
    settings = trainer.settings
    if settings.steps is not None:
        return f"{resume_command(trainer)} --steps {2 * settings.steps}"
    return f"{resume_command(trainer)} --minutes {2 * (settings.minutes or 1.0):g}"


def finish(trainer: Trainer, report: Report, result: Evaluation) -> None:
    """Export the model, and print its figures and what to do next."""
    folder, sample = trainer.folder, trainer.texts.sample
    tried = [entry for entry in report.entries if "valid_bits_per_byte" in entry]
    report.record(
        {"step": trainer.step, "seconds": trainer.seconds, "final_bits_per_byte": result.bits_per_byte}
    )

    def fill(part: Path) -> None:
        save_model(part, trainer.full_model, trainer.texts.tokenizer)
        save_reading(part, trainer.settings.reading)

    merge_into(folder, fill, seal="config.json")
    report.say(f"Held-out loss: {result.bits_per_byte:.4f} bits per byte, on all {result.bytes:,} bytes.")
    if tried and sample.text_bytes < result.bytes:
        report.say(
            f"The progress lines use a sample of it, {sample.text_bytes:,} bytes. The last one says"
            f" {tried[-1]['valid_bits_per_byte']:.4f} bits per byte."
        )
    if result.time_nats_per_event is not None:
        report.say(
            f"Loss of the times: {result.time_nats_per_event:.4f} nats per event ({result.events:,} events,"
            " times in seconds)."
        )
    survival = trainer.full_model.embedding.round_trip_survival()
    report.say(f"Tokens that survive embedding ▶ z ▶ inverse: {survival:.2%}")
    report.say(f"Model in {folder}, curve in {report.plot()}.")
    if tried:
        losses = [entry["valid_bits_per_byte"] for entry in tried]
        training = tried[-1]["train_bits_per_byte"]
        report.say(
            advice(
                losses, training, trainer.batches.passes, longer_command(trainer), trainer.settings.dropout
            )
        )
    report.say(f'Write with: liquidlm generate {shlex.quote(str(folder))} "…"')
