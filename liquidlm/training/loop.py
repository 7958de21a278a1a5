"""The training loop: start or resume a run, train, evaluate, save checkpoints, export the model.

`Trainer.save` (trainer.py) writes the checkpoints, into `OUT/checkpoints`.
"""

import math
import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..errors import LiquidError, first_line, is_out_of_memory
from ..inference.checkpoints import (
    checkpoint_folder,
    checkpoints,
    checkpoints_to_resume,
    newest_undamaged,
    step_of,
)
from ..inference.evaluate import Evaluation
from ..inference.model_folders import model_folder
from ..runtime.signals import stop_signals
from .advice import busy, why_training_is_higher
from .messages import finish, introduce, resume_command
from .processes import Processes, processes
from .progress import Report, SilentReport
from .run_folder import holds_a_run, run_folder
from .settings import TrainSettings
from .start_checks import source_folder
from .telemetry import time_constants
from .text import prepare
from .text_sources import is_read_once, rereadable_paths
from .throughput import Throughput
from .trainer import ROLL_BACK, Trainer
from .trainer_state import TrainerState

EVALUATIONS = 10
EVALUATION_SECONDS = 600.0
"""A run evaluates and saves a checkpoint EVALUATIONS times, and at least once in EVALUATION_SECONDS."""


def train(settings: TrainSettings, out: str | Path, device: torch.device | None = None) -> Evaluation | None:
    """Train a model and write it into a folder.

    After Ctrl-C or SIGTERM the run finishes its step, saves a checkpoint, and prints how to resume. With
    torchrun all processes train one model, and the first process prints. If torchrun restarts the processes
    after a failure, they resume the same run.

    Args:
        settings: settings of the run.
        out: folder of the run, for checkpoints, curve and model.
        device: device to compute on. None: the GPU if there is one.

    Returns:
        the figures on the held-out text. None if the run was interrupted, and in all processes but the first.

    Raises:
        LiquidError: the text or the settings cannot be used, or the folder already has a run or cannot be
            written.
    """
    folder = Path(out)
    with processes(device) as group, ExitStack() as alone:
        given = {*settings.paths, *settings.valid}
        with group.propagate_errors():
            once = any(is_read_once(path) for path in given)
            if once and not group.alone:
                raise LiquidError("standard input and pipes cannot be read by several processes: give files")
            _check_rows(settings, group)
        with group.propagate_errors(), group.main_process_first():
            found = source_folder(settings, folder)
            source = None if found is None else model_folder(found)
        if not once:
            settings.paths, settings.valid = rereadable_paths(
                settings.paths, settings.valid, folder, settings.reading
            )
        (restarts,) = group.total(int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")))
        with group.propagate_errors():
            if group.first:
                alone.enter_context(run_folder(folder))
                if checkpoints(folder) and not (restarts and _is_of(folder, settings)):
                    raise holds_a_run(folder)
        if once:
            settings.paths, settings.valid = rereadable_paths(
                settings.paths, settings.valid, folder, settings.reading
            )
        if group.of_first(bool(checkpoints(folder)))[0]:
            return _go_on(folder, group, {})
        return _execute(_run(settings, folder, group, source))


def _is_of(folder: Path, settings: TrainSettings) -> bool:
    """Whether the run in `folder` has these settings: then torchrun has restarted it."""
    steps = checkpoints(folder)
    if not steps:
        return False
    kept = TrainerState.read(newest_undamaged(steps)[0]).settings
    return replace(kept, bf16=None) == replace(settings, bf16=None)


def _run(
    settings: TrainSettings,
    folder: Path,
    group: Processes,
    source: Path | None,
    checkpoint: Path | None = None,
) -> Trainer:
    """A trainer for a new run, or for the run of a checkpoint; `source` is the model to fine-tune."""
    with group.propagate_errors(), group.main_process_first():
        texts = prepare(settings, checkpoint or source)
    with group.propagate_errors():
        trainer = Trainer(settings, texts, folder, group, source)
        if checkpoint is not None:
            trainer.load(checkpoint)
    return trainer


def _check_rows(settings: TrainSettings, group: Processes) -> None:
    if settings.batch_size % group.count:
        raise LiquidError(
            f"{settings.batch_size} rows cannot be divided between {group.count} processes: choose a --batch"
            " that is a multiple of the number of processes"
        )


def resume(
    out: str | Path, device: torch.device | None = None, **changes: int | float | None
) -> Evaluation | None:
    """Resume a run from its newest undamaged checkpoint, exactly where it was saved.

    The number of processes may differ from before.

    Args:
        out: folder of the run.
        device: device to compute on. None: the GPU if there is one.
        changes: settings to replace (steps, minutes, lr, tensorboard); None keeps a setting.

    Returns:
        see `train`.

    Raises:
        LiquidError: the folder has no checkpoint that fits, or another training writes to it.
    """
    folder = Path(out)
    with processes(device) as group, ExitStack() as alone:
        with group.propagate_errors():
            if group.first:
                checkpoints_to_resume(folder)
                alone.enter_context(run_folder(folder))
        return _go_on(folder, group, changes)


def _go_on(folder: Path, group: Processes, changes: dict[str, int | float | None]) -> Evaluation | None:
    number, warnings = -1, []
    with group.propagate_errors():
        if group.first:
            newest, damaged = newest_undamaged(checkpoints_to_resume(folder))
            number = step_of(newest)
            warnings = [f"{problem}; going on from {newest.name}" for problem in damaged]
    checkpoint = checkpoint_folder(folder, int(group.of_first(number)[0]))
    with group.propagate_errors():
        if not checkpoint.is_dir():
            raise LiquidError(
                f"{checkpoint} is not there on every machine: give an --out that all machines share"
            )
    given: dict[str, Any] = {name: value for name, value in changes.items() if value is not None}
    if given.keys() & {"steps", "minutes"}:
        given = {"steps": None, "minutes": None} | given
    with group.propagate_errors():
        settings = replace(TrainerState.read(checkpoint).settings, **given)
        _check_rows(settings, group)
    source = None if settings.source is None else checkpoint  # its source is not needed any more
    trainer = _run(settings, folder, group, source, checkpoint)
    if group.first:  # the exported model of a finished run is out of date
        (folder / "config.json").unlink(missing_ok=True)
    return _execute(trainer, warnings)


def _execute(trainer: Trainer, warnings: Sequence[str] = ()) -> Evaluation | None:
    folder = trainer.folder
    with trainer.processes.propagate_errors():
        report = (
            Report(folder, trainer.step, trainer.settings.tensorboard)
            if trainer.processes.first
            else SilentReport()
        )
    with report, stop_signals(insistent=trainer.processes.alone) as stopped:
        for warning in warnings:
            report.say(f"warning: {warning}")
        introduce(trainer, report)
        try:
            return _to_the_end(trainer, report, stopped)
        except BaseException as error:
            _rescue(trainer, report, error)
            if is_out_of_memory(error):
                raise LiquidError(
                    f"there is not enough memory ({first_line(error)}): take a smaller --batch or --context,"
                    " --recompute, or a smaller model"
                ) from error
            raise


def _to_the_end(trainer: Trainer, report: Report | SilentReport, stopped: list[int]) -> Evaluation | None:
    """Train to the end and export the model; after a signal, save a checkpoint instead."""
    begin, cpu_begin = time.perf_counter(), time.process_time()
    stop = _loop(trainer, report, stopped)
    note = busy(time.perf_counter() - begin, time.process_time() - cpu_begin, torch.get_num_threads())
    if note and trainer.device.type == "cpu":
        report.say(note)
    if stop:
        trainer.save()
        report.plot()
        report.say(f"Stopped and saved at step {trainer.step}. Continue with: {resume_command(trainer)}")
        return None
    if trainer.stalled:
        trainer.take_the_best()
        losses = trainer.early_stopping
        report.say(
            f"The held-out loss has not improved for {losses.worse} evaluations. The model is that of step"
            f" {losses.best_step:,}: {losses.best:.3f} bits per byte (sample)."
        )
    result = trainer.evaluate(trainer.texts.final)
    with trainer.processes.propagate_errors():
        if result is not None and isinstance(report, Report):
            finish(trainer, report, result)
    return result


def _rescue(trainer: Trainer, report: Report | SilentReport, error: BaseException) -> None:
    """After an error, save a checkpoint if possible, and print how to resume.

    Several processes do not save, because the others may be at another step. After a second Ctrl-C nothing is
    saved.
    """
    if isinstance(error, Exception) and trainer.processes.alone and trainer.sound and trainer.step:
        try:
            trainer.save()
        except Exception as another:
            report.say(f"Step {trainer.step} could not be saved: {first_line(another)}")
    if steps := checkpoints(trainer.folder):
        report.say(f"Step {step_of(steps[0])} is saved. Continue with: {resume_command(trainer)}")
    else:
        report.say("There is no checkpoint yet: nothing is saved.")


def _loop(trainer: Trainer, report: Report | SilentReport, stopped: list[int]) -> bool:
    """Train to the end, with evaluations and checkpoints in between; True if a signal has stopped the run."""
    settings, begin = trainer.settings, time.perf_counter() - trainer.seconds
    text = trainer.texts.train
    bits = text.size / text.text_bytes / math.log(2)  # factor from nats per token to bits per byte
    evaluations, explained = int(trainer.done * EVALUATIONS), False
    throughput = Throughput(time.perf_counter())
    average: float | None = None
    saved, per_step = trainer.seconds, settings.context * settings.batch_size * settings.accumulate
    while trainer.done < 1 and not trainer.stalled:
        if trainer.processes.total(len(stopped))[0]:
            return True
        result = trainer.train_step()
        now = time.perf_counter()
        (trainer.seconds,) = trainer.processes.of_first(now - begin)
        rate = throughput.add(now, per_step)
        if result is None:
            report.say(f"step {trainer.step:,}: the loss or its gradient is not finite; the step is skipped")
            if trainer.skipped == ROLL_BACK:
                report.say(
                    f"{ROLL_BACK} such steps in a row: going back to the weights of {trainer.roll_back()}"
                )
            continue
        average = result.token_loss if average is None else 0.95 * average + 0.05 * result.token_loss
        entry: dict[str, int | float] = {
            "step": trainer.step,
            "seconds": trainer.seconds,
            "loss": average,
            "train_bits_per_byte": average * bits,
            "gradient_norm": result.gradient_norm,
            "passes": trainer.batches.passes,
            "tokens_per_second": rate,
        }
        if settings.timestamps:
            entry["time_loss"] = result.time_loss
        report.progress(entry, trainer.done)
        if int(trainer.done * EVALUATIONS) > evaluations or trainer.seconds - saved > EVALUATION_SECONDS:
            evaluations = int(trainer.done * EVALUATIONS)
            entry["valid_bits_per_byte"] = trainer.try_held_out()
            report.say(
                f"step {trainer.step:,}: held-out loss {entry['valid_bits_per_byte']:.3f} bits per byte"
                f" (sample), training loss {entry['train_bits_per_byte']:.3f}"
            )
            if not explained and entry["train_bits_per_byte"] > entry["valid_bits_per_byte"]:
                explained = True
                report.say(why_training_is_higher(settings.dropout, trainer.texts.cuts_at(settings.span)))
            trainer.save()
            if trainer.processes.first:
                report.watch(trainer.step, {}, time_constants(trainer.full_model))
            (trainer.seconds,) = trainer.processes.of_first(time.perf_counter() - begin)
            saved = trainer.seconds
        if trainer.step % 10 == 0 or "valid_bits_per_byte" in entry:
            report.record(entry)
            report.watch(trainer.step, trainer.gradients)
        if "valid_bits_per_byte" in entry:
            report.plot()
    return False
