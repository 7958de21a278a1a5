"""Training: text ▶ a folder with model, tokenizer and curve, which no interruption can lose."""

import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from .config import LiquidConfig
from .corpus import Document, builtin_documents, read_documents, split_documents
from .data import StreamBatches, TokenCorpus, tokenize_documents
from .errors import LiquidError
from .evaluate import Evaluation, evaluate
from .folder import (
    cannot_write,
    checkpoints,
    is_whole,
    merge_into,
    newest_whole,
    remove_folder,
    save_model,
    write_folder,
)
from .model import LiquidTextGenerationModel
from .optim import clip_gradients, liquid_optimisers
from .precision import autocast, best_device, bf16_is_faster
from .report import Report
from .settings import SIZES, TrainSettings
from .signals import stop_signals
from .tokenizer import LEDTokenizerWrapper

ROUNDS = 10
ROUND_SECONDS = 600.0
"""The held-out text is tried and a checkpoint written so many times in a run, and at least this often."""
KEPT = 2
"""Checkpoints kept."""
SAMPLE_BYTES = 30_000
"""Held-out text for the rounds; the end of the run takes FINAL_BYTES of it."""
FINAL_BYTES = 1_000_000


@dataclass(frozen=True)
class Texts:
    """A run's tokenizer and its text: to train on, to try in every round, to judge the end by."""

    tokenizer: LEDTokenizerWrapper
    train: TokenCorpus
    sample: TokenCorpus
    final: TokenCorpus


def prepare(settings: TrainSettings, tokenizer_folder: Path | None = None) -> Texts:
    """Read and split the text, make the tokenizer (from the training part only) and apply it."""
    documents = list(read_documents(settings.paths) if settings.paths else builtin_documents())
    if settings.valid:
        train, valid = documents, list(read_documents(settings.valid))
    else:
        train, valid = split_documents(documents, seed=settings.seed)
    tokenizer = _tokenizer(settings.tokenizer, train, tokenizer_folder)
    sample, final = (
        tokenize_documents(_head(valid, size), tokenizer) for size in (SAMPLE_BYTES, FINAL_BYTES)
    )
    return Texts(tokenizer, tokenize_documents(train, tokenizer), sample, final)


def _tokenizer(name: str, documents: list[Document], folder: Path | None) -> LEDTokenizerWrapper:
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
        return LEDTokenizerWrapper.train((document.text for document in documents), size)
    return LEDTokenizerWrapper(name)


def _head(documents: list[Document], size: int) -> Iterator[Document]:
    """The first `size` bytes of the documents, an equal share of each cut off if they are few and long."""
    share = size // len(documents) if len(documents) < 10 else size
    left = size
    for document in documents:
        text = document.text.encode()[: min(share, left)].decode(errors="ignore")
        if text:
            yield Document(text, document.source)
        left -= len(text.encode())


def build_model(settings: TrainSettings, tokenizer: LEDTokenizerWrapper) -> LiquidTextGenerationModel:
    torch.manual_seed(settings.seed)
    sizes = {**SIZES[settings.size], "dropout_rate": float(settings.dropout), **settings.sizes}
    return LiquidTextGenerationModel(LiquidConfig(vocab_size=tokenizer.vocab_size, **sizes))  # pyright: ignore[reportArgumentType]


class Run:
    """One training run: what changes from step to step, saved and restored together."""

    def __init__(self, settings: TrainSettings, texts: Texts, folder: Path):
        self.settings, self.texts, self.folder = settings, texts, folder
        self.device = best_device()
        self.model = build_model(settings, texts.tokenizer)
        self.model.to(self.device).train()  # pyright: ignore[reportArgumentType]
        if settings.recompute:
            self.model.recompute_activations()
        self.optimisers = liquid_optimisers(self.model, settings.lr, settings.weight_decay)
        self.batches = StreamBatches(texts.train, settings.batch_size, settings.context, settings.seed)
        self.state = self.model.new_state()
        if settings.bf16 is None:  # measured once, and kept with the run
            settings.bf16 = bf16_is_faster(self.device)
        self.bf16 = settings.bf16
        self.step, self.seconds = 0, 0.0

    @property
    def done(self) -> float:
        """The part of the run that is done, 0…1."""
        if self.settings.steps is not None:
            return min(1.0, self.step / self.settings.steps)
        return min(1.0, self.seconds / 60 / (self.settings.minutes or 1.0))

    def train_step(self) -> tuple[float, float]:
        """One batch; (nats per token, gradient norm)."""
        batch = self.batches.next_batch()
        with autocast(self.device, self.bf16):
            output = self.model(
                batch.input_ids.to(self.device),
                starts=batch.starts.to(self.device),
                past_key_values=self.state.detach_(),
                use_cache=True,
                shift_labels=batch.targets.to(self.device),
            )
        output.loss.backward()
        norm = clip_gradients(self.model.parameters())
        loss = output.loss.item()
        if output.flow_loss is not None:
            loss -= self.model.config.flow_loss_weight * output.flow_loss.item()
        if not math.isfinite(loss + norm):
            raise LiquidError(
                f"the training diverged at step {self.step} (loss {loss}): go on from the last checkpoint"
                " with a smaller learning rate (--resume --lr)"
            )
        self.optimisers.step(self.step, self.done)
        self.step += 1
        return loss, norm

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
            progress = {"step": self.step, "seconds": self.seconds, "batches": self.batches.state_dict()}
            (folder / "run.json").write_text(
                json.dumps({**progress, "settings": asdict(self.settings)}, indent=1)
            )

        folder = self.folder / "checkpoints" / f"step-{self.step:08}"
        if not is_whole(folder):
            write_folder(folder, fill)
        for old in checkpoints(self.folder)[KEPT:]:
            remove_folder(old)

    def load(self, checkpoint: Path) -> None:
        """Go on from a checkpoint."""
        progress = json.loads((checkpoint / "run.json").read_text())
        self.batches.load_state_dict(progress["batches"])
        self.step, self.seconds = progress["step"], progress["seconds"]
        self.model.load_state_dict(load_file(checkpoint / "model.safetensors"))
        self.optimisers.load_tensors(load_file(checkpoint / "optimisers.safetensors"))
        tensors = load_file(checkpoint / "state.safetensors")
        torch.set_rng_state(tensors.pop("rng"))
        if "cuda_rng" in tensors:
            torch.cuda.set_rng_state(tensors.pop("cuda_rng"))
        self.state.load_tensors(tensors, self.step * self.settings.context)


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
    return [str(kept if path == "-" else Path(path).absolute()) for path in paths]


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
        if stopped:
            run.save()
            report.plot()
            report.say(
                f"Stopped and saved at step {run.step}. Go on with: liquidlm train --resume --out {folder}"
            )
            return None
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
        f" {text.text_bytes:,} bytes = {len(text.tokens):,} tokens, {'bfloat16' if run.bf16 else 'float32'}"
        f" on {run.device.type}"
    )


def _loop(run: Run, report: Report, stopped: list[int]) -> None:
    """Train to the end, or until a signal; a round of evaluation and checkpoint now and then."""
    settings, begin = run.settings, time.perf_counter() - run.seconds
    bits = (
        len(run.texts.train.tokens) / run.texts.train.text_bytes / math.log(2)
    )  # nats per token ▶ bits per byte
    first, tokens, average, round_ = time.perf_counter(), 0, 0.0, int(run.done * ROUNDS)
    saved = run.seconds
    while run.done < 1 and not stopped:
        loss, norm = run.train_step()
        tokens += settings.context * settings.batch_size
        run.seconds = time.perf_counter() - begin
        average = loss if tokens == settings.context * settings.batch_size else 0.95 * average + 0.05 * loss
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
            run.save()
            saved = run.seconds = time.perf_counter() - begin
        if run.step % 10 == 0 or "valid_bits_per_byte" in entry:
            report.record(entry)
        if "valid_bits_per_byte" in entry:
            report.plot()
