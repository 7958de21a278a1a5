"""The trainer: training steps, evaluation, and checkpoints.

`Trainer.save` writes a checkpoint, `Trainer.load` restores it. A checkpoint is the folder
`OUT/checkpoints/step-NNNNNNNN`. loop.py decides when to save. The folder has these files:

    model.safetensors           the weights, unsharded; config.json and generation_config.json beside them
    tokenizer.json, …           the tokenizer
    optimisers.safetensors      the state of the optimisers, such as momenta
    state.safetensors           the carried states of the model, one per row of a batch, and the random states
    run.json                    step, seconds, place in the text, evaluations, settings (`TrainerState`)
    checksums.json              the checksum of each file
"""

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..errors import LiquidError, first_line
from ..inference.checkpoints import checkpoint_folder, checkpoints, newest_undamaged
from ..inference.evaluate import Evaluation, evaluate
from ..inference.reading_file import save_reading
from ..inference.saving import load_model, save_model
from ..model.config import LiquidConfig
from ..model.pretrained import LiquidTextGenerationModel
from ..runtime.checksums import is_undamaged, verify
from ..runtime.folders import remove_folder, write_folder
from ..runtime.precision import autocast, bf16_is_faster
from ..text.batches import IGNORED, StreamBatches
from ..text.token_corpus import TokenCorpus
from ..text.weighting import WeightedCorpus
from .clock import clock
from .optim import clip_gradients, liquid_optimisers
from .processes import Processes, load_weights
from .settings import SIZES, TrainSettings
from .telemetry import gradient_norms
from .text import Texts
from .trainer_state import EarlyStopping, TrainerState

KEPT = 2
"""Number of newest checkpoints to keep, in addition to the best one."""
ROLL_BACK = 5
"""After this many non-finite steps in a row the run goes back to its last checkpoint. After this many such
returns in a row the run ends with an error."""


def build_model(
    settings: TrainSettings, texts: Texts, source: Path | None = None
) -> LiquidTextGenerationModel:
    """Build a new model, or copy the model in `source`.

    Args:
        settings: size, dropout and seed of the model. A copy takes only the dropout.
        texts: the tokenizer sets the vocabulary, the training corpus sets the time scales.
        source: the folder of a saved model.

    Raises:
        LiquidError: the sizes are not valid, or the source cannot be read or does not fit the settings.
    """
    torch.manual_seed(settings.seed)
    if source is not None:
        return _copy_of(source, settings)
    sizes: dict[str, Any] = {**SIZES[settings.size], "dropout_rate": float(settings.dropout)}
    if settings.timestamps:
        sizes |= clock(texts.train)
    sizes |= settings.sizes
    return LiquidTextGenerationModel(LiquidConfig(vocab_size=texts.tokenizer.vocab_size, **sizes))  # pyright: ignore[reportArgumentType]


def documents_of(train: TokenCorpus | WeightedCorpus) -> tuple[Tensor, Tensor]:
    """The tokens that are trained on, each once, and where their documents start."""
    if isinstance(train, TokenCorpus):
        return torch.from_numpy(train.tokens[:]), torch.from_numpy(train.starts)
    corpus = train.corpus
    ends = np.append(corpus.starts[1:], corpus.tokens.size)
    read = train.weights > 0
    parts = [corpus.tokens[first:end] for first, end in zip(corpus.starts[read], ends[read], strict=True)]
    starts = np.cumsum([0, *(part.size for part in parts[:-1])])
    return torch.from_numpy(np.concatenate(parts)), torch.from_numpy(starts)


def _copy_of(source: Path, settings: TrainSettings) -> LiquidTextGenerationModel:
    found, _ = load_model(source)
    if settings.timestamps and not found.config.time_components:
        raise LiquidError(
            f"the model in {source} was trained without times: leave --timestamps out, or train a new model"
        )
    config = copy.deepcopy(found.config)
    config.dropout_rate = float(settings.dropout)
    model = LiquidTextGenerationModel(config)
    model.load_state_dict(found.state_dict())
    return model


class StepResult(NamedTuple):
    """The figures of one training step.

    Attributes:
        token_loss: loss of the next token, in nats per token.
        time_loss: loss of the next gap, in nats per token; 0 for text without times.
        gradient_norm: norm of the gradient before clipping.
    """

    token_loss: float
    time_loss: float
    gradient_norm: float


class Trainer:
    """One training run, in one process or in several.

    Several processes divide the rows of each batch, and the carried states of these rows. All processes call
    the same methods in the same order. A checkpoint does not depend on the number of processes: it holds
    unsharded weights and optimiser states, and the carried states in the order of the rows.

    Args:
        settings: settings of the run.
        texts: text and tokenizer of the run.
        folder: folder of the run; the checkpoints are in `folder/checkpoints`.
        processes: this process and the number of processes in the run.
        source: folder of a model to start from, with its sizes and weights; None: a new model.

    Attributes:
        model: the model in training; its parameters are sharded if there are several processes.
        full_model: the unsharded model. With one process it is `model`. With several, the first process has a
            copy, which `gather` updates.
        sound: whether weights, carried state and place in the text belong to the same step. If not, the run
            must not be saved.

    Raises:
        LiquidError: the processes have read different text, or the model cannot be built.
    """

    def __init__(
        self,
        settings: TrainSettings,
        texts: Texts,
        folder: Path,
        processes: Processes,
        source: Path | None = None,
    ):
        self.settings, self.texts, self.folder, self.processes = settings, texts, folder, processes
        self.device = processes.device
        if processes.of_first(texts.train.checksum)[0] != texts.train.checksum:
            raise LiquidError("the processes have read different text: give the same text to all of them")
        model = build_model(settings, texts, source)
        if model.counts is not None and model.counts.training_counts is not None:
            model.counts.count_training_text(*documents_of(texts.train))
        model.to(self.device).train()  # pyright: ignore[reportArgumentType]
        self.full_model = model if processes.alone or not processes.first else copy.deepcopy(model)
        if settings.recompute:
            model.recompute_activations()
        self.model = processes.shard(model)
        if processes.rank:  # each process draws its own dropout
            torch.manual_seed(settings.seed + processes.rank)
        if settings.bf16 is None:  # measured once, then saved with the settings
            settings.bf16 = bool(processes.of_first(bf16_is_faster(self.device))[0])
        self.bf16 = settings.bf16
        self.optimisers = liquid_optimisers(
            self.model, settings.lr, settings.weight_decay, settings.warmup, self.bf16
        )
        self.batches = StreamBatches(texts.train, settings.batch_size, settings.context, settings.seed)
        self.state = self.model.new_state()
        self.step, self.seconds = 0, 0.0
        self.early_stopping = EarlyStopping()
        self.skipped = self.rolled_back = 0  # in a row
        self.sound = True
        self.gradients: dict[str, float] = {}

    @property
    def done(self) -> float:
        """The fraction of the run that is done, from 0 to 1."""
        if self.settings.steps is not None:
            return min(1.0, self.step / self.settings.steps)
        return min(1.0, self.seconds / 60 / (self.settings.minutes or 1.0))

    @property
    def stalled(self) -> bool:
        """Whether the held-out loss has not improved for `patience` evaluations."""
        return self.settings.patience is not None and self.early_stopping.worse >= self.settings.patience

    def train_step(self) -> "StepResult | None":
        """Train one step on `accumulate` batches.

        Returns:
            the figures of the step. None if the loss or the gradient is not finite: then the weights and the
            carried state stay as they were.
        """
        before, parts = self.state.detach_().copy(), self.settings.accumulate
        with self._as_it_was_after_an_error():
            losses = [self._backward(parts) for _ in range(parts)]
            token_loss, time_loss = (sum(each) / parts for each in zip(*losses, strict=True))
            self.gradients = gradient_norms(self.model) if self.settings.tensorboard else {}
            norm = clip_gradients(self.model.parameters())
        finite = math.isfinite(token_loss + time_loss + norm)
        if finite:
            self.sound = False  # while some weights have moved and others have not
            self.optimisers.step(self.step, self.done)
            self.sound, self.skipped, self.rolled_back = True, 0, 0
        else:
            self.optimisers.drop_gradients()
            self.state, self.skipped = before, self.skipped + 1
        self.step += 1
        return StepResult(token_loss, time_loss, norm) if finite else None

    @contextmanager
    def _as_it_was_after_an_error(self) -> Iterator[None]:
        """After an error inside, restore carried state, place in the text and random states, so that the run
        can still be saved."""
        state, place, random = self.state.copy(), self.batches.state_dict(), torch.get_rng_state()
        on_gpu = torch.cuda.get_rng_state() if self.device.type == "cuda" else None
        try:
            yield
        except Exception:
            self.optimisers.drop_gradients()
            self.state = state
            self.batches.load_state_dict(place)
            torch.set_rng_state(random)
            if on_gpu is not None:
                torch.cuda.set_rng_state(on_gpu)
            raise

    def _backward(self, parts: int) -> tuple[float, float]:
        """Add the gradients of the next batch, divided by `parts`; returns its losses, in nats per token."""
        batch, own = self.batches.next_batch(), self.processes.rows
        more: dict[str, Any] = {}
        if batch.times is not None and batch.next_times is not None:
            more["timestamps"] = own(batch.times).to(self.device)
            more["shift_timestamps"] = own(batch.next_times).to(self.device)
        if not self.processes.alone:  # FSDP averages gradients over processes: the loss is scaled up
            labels = int((batch.targets != IGNORED).sum()) / self.processes.count
            more |= {"num_items_in_batch": labels, "flow_ids": batch.input_ids.to(self.device)}
        with autocast(self.device, self.bf16):
            output = self.model(
                own(batch.input_ids).to(self.device),
                starts=own(batch.starts).to(self.device),
                past_key_values=self.state.detach_(),
                use_cache=True,
                shift_labels=own(batch.targets).to(self.device),
                skip_logits=True,
                **more,
            )
        (output.loss / parts).backward()
        loss = output.loss.item()
        time_loss = 0.0 if output.time_loss is None else output.time_loss.item()
        if output.flow_loss is not None:
            loss -= self.model.config.flow_loss_weight * output.flow_loss.item()
        losses = self.processes.total(loss - time_loss, time_loss)
        token_loss, time_loss = (total / self.processes.count for total in losses)
        return token_loss, time_loss

    def roll_back(self) -> str:
        """Load weights and optimisers of the newest undamaged checkpoint, and empty the carried state.

        The place in the text does not change. Returns the name of the checkpoint.

        Raises:
            LiquidError: there is no checkpoint, or `ROLL_BACK` returns in a row did not help.
        """
        self.skipped, self.rolled_back = 0, self.rolled_back + 1
        steps = checkpoints(self.folder)
        if not steps or self.rolled_back >= ROLL_BACK:
            self.sound = False
            raise LiquidError(
                f"the training diverged at step {self.step}: go on from the last checkpoint with a smaller"
                " learning rate (--resume --lr)"
                if steps
                else f"the training diverged at step {self.step}, before the first checkpoint: start again"
                " with a smaller learning rate (--lr)"
            )
        checkpoint = newest_undamaged(steps)[0]
        self._load_weights(checkpoint)
        self.state = self.model.new_state()
        return checkpoint.name

    def gather(self) -> None:
        """Copy the current weights into `full_model`, in the first process."""
        self.processes.copy_to_first(self.model, self.full_model)

    def evaluate(self, corpus: TokenCorpus) -> Evaluation | None:
        """Evaluate the model on held-out text, in the first process; None in the others."""
        self.gather()
        if not self.processes.first:
            return None
        eos = self.texts.tokenizer.eos_token_id
        return evaluate(self.full_model, corpus, eos_token_id=eos, bf16=self.bf16)

    def try_held_out(self) -> float:
        """Evaluate on the held-out sample and record the result for early stopping; returns bits per byte."""
        result = self.evaluate(self.texts.sample)
        (bits,) = self.processes.of_first(result.bits_per_byte if result is not None else 0.0)
        self.early_stopping.add(bits, self.step)
        return bits

    def save(self) -> None:
        """Write a checkpoint, from which `load` continues the run exactly.

        The first process writes the folder `OUT/checkpoints/step-NNNNNNNN`: model and tokenizer,
        `optimisers.safetensors`, `state.safetensors`, `run.json` and `checksums.json` (see the top of this
        module). The folder appears only when it is complete. Then old checkpoints are deleted: the newest
        `KEPT` and the best one remain.

        Raises:
            LiquidError: the folder cannot be written.
        """
        self.gather()
        optimisers, state = self.optimisers.tensors(), self._changing()
        with self.processes.propagate_errors():
            if self.processes.first:
                self._write(optimisers, state)

    def _changing(self) -> dict[str, Tensor]:
        """The carried states and random states of all processes, gathered in the first process."""
        found = self.state.tensors() | {"rng": torch.get_rng_state()[None]}
        if self.device.type == "cuda":
            found["cuda_rng"] = torch.cuda.get_rng_state()[None]
        return {name: self.processes.all_rows(value) for name, value in found.items()}

    def _write(self, optimisers: dict[str, Tensor], state: dict[str, Tensor]) -> None:
        def fill(folder: Path) -> None:
            save_model(folder, self.full_model, self.texts.tokenizer)
            save_reading(folder, self.settings.reading)
            save_file(optimisers, folder / "optimisers.safetensors")
            save_file(state, folder / "state.safetensors")
            self.trainer_state().write(folder)

        folder = checkpoint_folder(self.folder, self.step)
        if not is_undamaged(folder):
            write_folder(folder, fill)
        best = checkpoint_folder(self.folder, self.early_stopping.best_step)
        for old in checkpoints(self.folder)[KEPT:]:
            if old != best:
                remove_folder(old)

    def trainer_state(self) -> TrainerState:
        """The numbers that a checkpoint keeps in `run.json`."""
        return TrainerState(
            self.step,
            self.seconds,
            self.skipped,
            self.rolled_back,
            self.early_stopping,
            self.batches.state_dict(),
            self.settings,
            self.texts.held_out_checksum,
        )

    def load(self, checkpoint: Path) -> None:
        """Continue from a checkpoint that `save` wrote.

        Args:
            checkpoint: its folder.

        Raises:
            LiquidError: the checkpoint cannot be read, does not fit the model, or was made with other text.
        """
        saved = TrainerState.read(checkpoint)
        self.batches.load_state_dict(saved.batches)
        if saved.held_out not in (None, self.texts.held_out_checksum):
            raise LiquidError(
                "cannot resume: the held-out text has changed since the run was saved; resume with the"
                " same text, or start a new run"
            )
        tensors, rank = load_file(checkpoint / "state.safetensors"), self.processes.rank
        random, cuda_random = tensors.pop("rng"), tensors.pop("cuda_rng", None)
        if random.ndim != 2:
            raise LiquidError(f"{checkpoint} was written by an earlier version: start a new run")
        self.step, self.seconds, self.early_stopping = saved.step, saved.seconds, saved.early_stopping
        self.skipped, self.rolled_back = saved.skipped, saved.rolled_back
        try:
            self._load_weights(checkpoint)
        except (IndexError, KeyError, RuntimeError, ValueError) as error:
            raise LiquidError(
                f"{checkpoint} does not fit the model of this version ({first_line(error)}): start a new run"
            ) from error
        if rank < len(random):  # additional processes keep their new random states
            torch.set_rng_state(random[rank].clone())
            if cuda_random is not None and self.device.type == "cuda":
                torch.cuda.set_rng_state(cuda_random[rank].clone())
        own = {name: self.processes.rows(value).clone() for name, value in tensors.items()}
        if own:  # empty before the first step
            self.state.load_tensors(own, self.step * self.settings.accumulate * self.settings.context)

    def _load_weights(self, checkpoint: Path) -> None:
        load_weights(self.model, load_file(checkpoint / "model.safetensors"))
        self.optimisers.load_tensors(load_file(checkpoint / "optimisers.safetensors"))

    def take_the_best(self) -> None:
        """Load the weights of the checkpoint with the lowest held-out loss."""
        best = checkpoint_folder(self.folder, self.early_stopping.best_step)
        verify(best)
        self.sound = False  # the place in the text belongs to a later step
        self._load_weights(best)
