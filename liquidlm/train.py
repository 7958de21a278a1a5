"""Training: text ▶ a folder with model, tokenizer and curve, which no interruption can lose."""

import functools
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from .config import LiquidConfig
from .corpus import (
    FEW_DOCUMENTS,
    PART,
    Document,
    builtin_documents,
    portions,
    read_documents,
    split_points,
    survey,
)
from .data import StreamBatches, TokenCorpus, Weighted, tokenize_documents
from .errors import LiquidError
from .evaluate import Evaluation, evaluate
from .folder import (
    cannot_write,
    checkpoint_folder,
    checkpoints,
    is_whole,
    merge_into,
    newest_whole,
    remove_folder,
    save_model,
    verify,
    write_folder,
)
from .hf_datasets import PREFIX
from .model import LiquidTextGenerationModel
from .optim import clip_gradients, liquid_optimisers
from .precision import autocast, best_device, bf16_is_faster
from .report import Report, progress_bar
from .settings import SIZES, TrainSettings
from .signals import stop_signals
from .token_cache import cached_tokens
from .tokenizer import LEDTokenizerWrapper
from .watch import gradient_norms, time_constants

ROUNDS = 10
ROUND_SECONDS = 600.0
"""The held-out text is tried and a checkpoint written so many times in a run, and at least this often."""
KEPT = 2
"""Checkpoints kept beside the best."""
ROLL_BACK = 5
"""Steps in a row whose loss or gradient is not finite, after which the run goes back to its last checkpoint;
after as many times in a row it ends."""
SAMPLE_BYTES = 30_000
"""Held-out text for the rounds; the end of the run takes FINAL_BYTES of it."""
FINAL_BYTES = 1_000_000
IN_MEMORY = 1 << 26
"""Characters of training text whose tokens are kept in memory; those of more are kept in a file."""
BPE_CHARACTERS = 100_000_000
"""Characters of training text from which a BPE is learned."""


@dataclass(frozen=True)
class Texts:
    """A run's tokenizer and its text: to train on, to try in every round, to judge the end by."""

    tokenizer: LEDTokenizerWrapper
    train: TokenCorpus | Weighted
    sample: TokenCorpus
    final: TokenCorpus


def prepare(settings: TrainSettings, tokenizer_folder: Path | None = None) -> Texts:
    """Read and split the text, make the tokenizer (from the training part only) and apply it.

    The text is read in parts, twice or three times; over IN_MEMORY characters its tokens are kept in a file.
    """
    found = survey(_documents(settings.paths))
    points = found.lengths if settings.valid else split_points(found.lengths, seed=settings.seed)

    def training() -> Iterator[Document]:
        return portions(_documents(settings.paths), points)

    tokenizer = _tokenizer(settings.tokenizer, training, tokenizer_folder)
    if sum(points) <= IN_MEMORY:
        train = tokenize_documents(training(), tokenizer)
    else:
        part = f"{found.digest} {hashlib.sha256(np.asarray(points, np.int64).tobytes()).hexdigest()}"
        with progress_bar("tokenizing", sum(points)) as advance:
            train = cached_tokens(part, training, tokenizer, advance)
    if settings.weights:
        trained = (path for path, point in zip(found.paths, points, strict=True) if point)
        train = Weighted(train, [settings.weights[path] for path in trained], settings.seed)
    if settings.valid:
        count = len(survey(_documents(settings.valid)).lengths)
        held_out = functools.partial(_documents, settings.valid)
    else:
        count = sum(point < length for point, length in zip(points, found.lengths, strict=True))
        held_out = functools.partial(portions, _documents(settings.paths), points, held_out=True)
    valid = list(_head(held_out(), count, FINAL_BYTES))
    sample = list(_head(valid, count, SAMPLE_BYTES))
    return Texts(tokenizer, train, *(tokenize_documents(part, tokenizer) for part in (sample, valid)))


def _documents(paths: list[str]) -> Iterator[Document]:
    return read_documents(paths, PART) if paths else builtin_documents()


def _tokenizer(
    name: str, training: Callable[[], Iterator[Document]], folder: Path | None
) -> LEDTokenizerWrapper:
    if folder is not None:
        return LEDTokenizerWrapper(folder)
    if name == "bytes":
        return LEDTokenizerWrapper.bytes()
    if name.startswith("bpe:"):
        try:
            size = int(name[4:])
        except ValueError:
            raise LiquidError(
                f"--tokenizer {name}: after bpe: comes the size of the vocabulary, as in bpe:4000"
            ) from None
        return LEDTokenizerWrapper.train(_texts(training(), BPE_CHARACTERS), size)
    return LEDTokenizerWrapper(name)


def _texts(documents: Iterable[Document], limit: int) -> Iterator[str]:
    """The texts of documents until there are `limit` characters."""
    for document in documents:
        yield document.text
        limit -= len(document.text)
        if limit <= 0:
            return


def _head(documents: Iterable[Document], count: int, size: int) -> Iterator[Document]:
    """The first `size` bytes of `count` documents; of each an equal share if they are few and long."""
    left = size
    room = share = size // count if count < FEW_DOCUMENTS else size
    for document in documents:
        if not document.continues:
            room = share
        text = document.text.encode()[: min(room, left)].decode(errors="ignore")
        if text:
            yield Document(text, document.source, document.continues)
        room, left = room - len(text.encode()), left - len(text.encode())
        if left <= 0:
            return


def build_model(settings: TrainSettings, tokenizer: LEDTokenizerWrapper) -> LiquidTextGenerationModel:
    torch.manual_seed(settings.seed)
    sizes = {**SIZES[settings.size], "dropout_rate": float(settings.dropout), **settings.sizes}
    return LiquidTextGenerationModel(LiquidConfig(vocab_size=tokenizer.vocab_size, **sizes))  # pyright: ignore[reportArgumentType]


@dataclass
class Rounds:
    """How the held-out text has fared: its best bits per byte, when, and the rounds since."""

    best: float = math.inf
    best_step: int = 0
    worse: int = 0

    def add(self, bits: float, step: int) -> None:
        if bits < self.best:
            self.best, self.best_step, self.worse = bits, step, 0
        else:
            self.worse += 1


PROGRESS = ("step", "seconds", "skipped", "rolled_back")
"""Numbers of a run that a checkpoint keeps."""


class Run:
    """One training run: what changes from step to step, saved and restored together."""

    def __init__(self, settings: TrainSettings, texts: Texts, folder: Path):
        self.settings, self.texts, self.folder = settings, texts, folder
        self.device = best_device()
        self.model = build_model(settings, texts.tokenizer)
        self.model.to(self.device).train()  # pyright: ignore[reportArgumentType]
        if settings.recompute:
            self.model.recompute_activations()
        self.optimisers = liquid_optimisers(self.model, settings.lr, settings.weight_decay, settings.warmup)
        self.batches = StreamBatches(texts.train, settings.batch_size, settings.context, settings.seed)
        self.state = self.model.new_state()
        if settings.bf16 is None:  # measured once, and kept with the run
            settings.bf16 = bf16_is_faster(self.device)
        self.bf16 = settings.bf16
        self.step, self.seconds = 0, 0.0
        self.rounds = Rounds()
        self.skipped = self.rolled_back = 0  # in a row
        self.gradients: dict[str, float] = {}

    @property
    def done(self) -> float:
        """The part of the run that is done, 0…1."""
        if self.settings.steps is not None:
            return min(1.0, self.step / self.settings.steps)
        return min(1.0, self.seconds / 60 / (self.settings.minutes or 1.0))

    @property
    def stalled(self) -> bool:
        """The held-out text has not got better for as long as `patience` says."""
        return self.settings.patience is not None and self.rounds.worse >= self.settings.patience

    def train_step(self) -> tuple[float, float] | None:
        """One step over `accumulate` batches: (nats per token, gradient norm).

        None if one of the two is not finite: then the model and its carried state are left as they were.
        """
        before, parts = self.state.detach_().copy(), self.settings.accumulate
        loss = sum(self._backward(parts) for _ in range(parts)) / parts
        self.gradients = gradient_norms(self.model) if self.settings.tensorboard else {}
        norm = clip_gradients(self.model.parameters())
        finite = math.isfinite(loss + norm)
        if finite:
            self.optimisers.step(self.step, self.done)
            self.skipped = self.rolled_back = 0
        else:
            self.optimisers.drop_gradients()
            self.state, self.skipped = before, self.skipped + 1
        self.step += 1
        return (loss, norm) if finite else None

    def _backward(self, parts: int) -> float:
        """Gradients of the next batch, as one of so many parts of a step; nats per token."""
        batch = self.batches.next_batch()
        with autocast(self.device, self.bf16):
            output = self.model(
                batch.input_ids.to(self.device),
                starts=batch.starts.to(self.device),
                past_key_values=self.state.detach_(),
                use_cache=True,
                shift_labels=batch.targets.to(self.device),
            )
        (output.loss / parts).backward()
        loss = output.loss.item()
        if output.flow_loss is not None:
            loss -= self.model.config.flow_loss_weight * output.flow_loss.item()
        return loss

    def roll_back(self) -> str:
        """Weights and optimisers of the newest whole checkpoint, and an empty state; the text goes on.

        Raises:
            LiquidError: there is none, or going back did not help.
        """
        self.skipped, self.rolled_back = 0, self.rolled_back + 1
        steps = checkpoints(self.folder)
        if not steps or self.rolled_back >= ROLL_BACK:
            raise LiquidError(
                f"the training diverged at step {self.step}: go on from the last checkpoint with a smaller"
                " learning rate (--resume --lr)"
                if steps
                else f"the training diverged at step {self.step}, before the first checkpoint: start again"
                " with a smaller learning rate (--lr)"
            )
        checkpoint = newest_whole(steps)[0]
        self._load_weights(checkpoint)
        self.state = self.model.new_state()
        return checkpoint.name

    def evaluate(self, corpus: TokenCorpus) -> Evaluation:
        return evaluate(self.model, corpus, eos_token_id=self.texts.tokenizer.eos_token_id, bf16=self.bf16)

    def save(self) -> None:
        """Write a checkpoint with all there is to go on from exactly here; keep the newest few."""

        def fill(folder: Path) -> None:
            save_model(folder, self.model, self.texts.tokenizer)
            save_file(self.optimisers.tensors(), folder / "optimisers.safetensors")
            random = {"rng": torch.get_rng_state()}
            if self.device.type == "cuda":
                random["cuda_rng"] = torch.cuda.get_rng_state()
            save_file(random | self.state.tensors(), folder / "state.safetensors")
            progress = {
                **{name: getattr(self, name) for name in PROGRESS},
                "rounds": asdict(self.rounds),
                "batches": self.batches.state_dict(),
                "settings": asdict(self.settings),
            }
            (folder / "run.json").write_text(json.dumps(progress, indent=1))

        folder = checkpoint_folder(self.folder, self.step)
        if not is_whole(folder):
            write_folder(folder, fill)
        best = checkpoint_folder(self.folder, self.rounds.best_step)
        for old in checkpoints(self.folder)[KEPT:]:
            if old != best:
                remove_folder(old)

    def load(self, checkpoint: Path) -> None:
        """Go on from a checkpoint."""
        progress = json.loads((checkpoint / "run.json").read_text())
        self.batches.load_state_dict(progress["batches"])
        if missing := {*PROGRESS, "rounds"} - progress.keys():
            raise LiquidError(
                f"{checkpoint} was written by an earlier version (it lacks {min(missing)}): start a new run"
            )
        for name in PROGRESS:
            setattr(self, name, progress[name])
        self.rounds = Rounds(**progress["rounds"])
        self._load_weights(checkpoint)
        tensors = load_file(checkpoint / "state.safetensors")
        torch.set_rng_state(tensors.pop("rng"))
        if "cuda_rng" in tensors:
            torch.cuda.set_rng_state(tensors.pop("cuda_rng"))
        self.state.load_tensors(tensors, self.step * self.settings.accumulate * self.settings.context)

    def _load_weights(self, checkpoint: Path) -> None:
        self.model.load_state_dict(load_file(checkpoint / "model.safetensors"))
        self.optimisers.load_tensors(load_file(checkpoint / "optimisers.safetensors"))

    def take_the_best(self) -> None:
        """The weights of the step whose held-out text was best."""
        best = checkpoint_folder(self.folder, self.rounds.best_step)
        verify(best)
        self._load_weights(best)


def train(settings: TrainSettings, out: str | Path) -> Evaluation | None:
    """Train a model into the folder `out`; the held-out figures at the end, or None if interrupted.

    Interrupted (Ctrl-C, SIGTERM) it finishes the step, saves, and says how to go on.

    Raises:
        LiquidError: text that cannot be used, settings that make no sense, a folder that is taken or cannot
            be written.
    """
    folder = Path(out)
    if checkpoints(folder) or (folder / "config.json").exists():
        raise LiquidError(f"{folder} already holds a run: go on with --resume, or choose another --out")
    _probe(folder)
    settings.paths, settings.valid = (_lasting(given, folder) for given in (settings.paths, settings.valid))
    return _execute(Run(settings, prepare(settings), folder))


def _lasting(paths: list[str], folder: Path) -> list[str]:
    """Paths under which a resumed run finds the same text: absolute, standard input kept as a file."""
    kept = folder / "standard-input.txt"
    if "-" in paths:
        try:
            kept.write_text("\n".join(document.text for document in read_documents(["-"])), newline="")
        except OSError as error:
            raise cannot_write(kept, error) from error
    return [
        path if path.startswith(PREFIX) else str(kept if path == "-" else Path(path).absolute())
        for path in paths
    ]


def resume(out: str | Path, **changes: int | float | None) -> Evaluation | None:
    """Go on with the run in `out` from its newest whole checkpoint, exactly where that was taken.

    `changes` (steps, minutes, lr, tensorboard) replace settings of the run where they are not None.
    """
    folder = Path(out)
    steps = checkpoints(folder)
    if not steps:
        raise LiquidError(f"there is no checkpoint in {folder}: start without --resume")
    checkpoint, damaged = newest_whole(steps)
    settings = json.loads((checkpoint / "run.json").read_text())["settings"]
    given = {name: value for name, value in changes.items() if value is not None}
    if given.keys() & {"steps", "minutes"}:
        settings |= {"steps": None, "minutes": None}
    settings = TrainSettings(**{**settings, **given})
    _probe(folder)
    run = Run(settings, prepare(settings, checkpoint), folder)
    run.load(checkpoint)
    (folder / "config.json").unlink(missing_ok=True)  # a finished run goes on: its export is old now
    return _execute(run, [f"{problem}; going on from {checkpoint.name}" for problem in damaged])


def _probe(folder: Path) -> None:
    """LiquidError now, not after the training, if nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".probe").touch()
        (folder / ".probe").unlink()
    except OSError as error:
        raise cannot_write(folder, error) from error


def _execute(run: Run, warnings: Sequence[str] = ()) -> Evaluation | None:
    folder = run.folder
    with Report(folder, run.step, run.settings.tensorboard) as report, stop_signals() as stopped:
        for warning in warnings:
            report.say(f"warning: {warning}")
        _introduce(run, report)
        _loop(run, report, stopped)
        if stopped and run.done < 1 and not run.stalled:
            run.save()
            report.plot()
            report.say(
                f"Stopped and saved at step {run.step}. Go on with: liquidlm train --resume --out {folder}"
            )
            return None
        if run.stalled:
            run.take_the_best()
            report.say(
                f"No better for {run.rounds.worse} rounds: the model is that of step"
                f" {run.rounds.best_step:,}, held-out {run.rounds.best:.3f} bits per byte."
            )
        result = run.evaluate(run.texts.final)
        report.record({"step": run.step, "seconds": run.seconds, "final_bits_per_byte": result.bits_per_byte})
        merge_into(folder, lambda part: save_model(part, run.model, run.texts.tokenizer))
        report.say(
            f"Held-out text: {result.bits_per_byte:.4f} bits per byte, {result.nats_per_token:.4f} nats"
            f" per token ({result.bytes:,} bytes, state carried)."
        )
        report.say(
            f"Tokens that survive embedding ▶ z ▶ inverse: {run.model.embedding.round_trip_survival():.2%}"
        )
        report.say(f'Model in {folder}, curve in {report.plot()}. Write with: liquidlm generate {folder} "…"')
    return result


def _introduce(run: Run, report: Report) -> None:
    parameters = sum(p.numel() for p in run.model.parameters())
    text = run.texts.train
    report.say(
        f"{parameters:,} parameters, vocabulary {run.texts.tokenizer.vocab_size:,}, training on"
        f" {text.text_bytes:,} bytes = {text.size:,} tokens, {'bfloat16' if run.bf16 else 'float32'}"
        f" on {run.device.type}"
    )


def _loop(run: Run, report: Report, stopped: list[int]) -> None:
    """Train to the end, or until a signal; a round of evaluation and checkpoint now and then."""
    settings, begin = run.settings, time.perf_counter() - run.seconds
    bits = run.texts.train.size / run.texts.train.text_bytes / math.log(2)  # nats per token ▶ bits per byte
    first, tokens, round_ = time.perf_counter(), 0, int(run.done * ROUNDS)
    average: float | None = None
    saved, per_step = run.seconds, settings.context * settings.batch_size * settings.accumulate
    while run.done < 1 and not stopped and not run.stalled:
        outcome = run.train_step()
        run.seconds = time.perf_counter() - begin
        tokens += per_step
        if outcome is None:
            report.say(f"step {run.step:,}: the loss or its gradient is not finite; the step is left out")
            if run.skipped == ROLL_BACK:
                report.say(f"{ROLL_BACK} such steps in a row: going back to the weights of {run.roll_back()}")
            continue
        loss, norm = outcome
        average = loss if average is None else 0.95 * average + 0.05 * loss
        entry: dict[str, int | float] = {
            "step": run.step,
            "seconds": run.seconds,
            "loss": average,
            "train_bits_per_byte": average * bits,
            "gradient_norm": norm,
        }
        report.progress(entry, run.done, tokens / (time.perf_counter() - first))
        if int(run.done * ROUNDS) > round_ or run.seconds - saved > ROUND_SECONDS:
            round_ = int(run.done * ROUNDS)
            entry["valid_bits_per_byte"] = run.evaluate(run.texts.sample).bits_per_byte
            report.say(
                f"step {run.step:,}: held-out {entry['valid_bits_per_byte']:.3f} bits per byte"
                f" (training {entry['train_bits_per_byte']:.3f})"
            )
            run.rounds.add(entry["valid_bits_per_byte"], run.step)
            run.save()
            report.watch(run.step, {}, time_constants(run.model))
            saved = run.seconds = time.perf_counter() - begin
        if run.step % 10 == 0 or "valid_bits_per_byte" in entry:
            report.record(entry)
            report.watch(run.step, run.gradients)
        if "valid_bits_per_byte" in entry:
            report.plot()
