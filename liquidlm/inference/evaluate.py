"""Likelihood of held-out text. Whole documents are read, with the state kept from beginning to end."""

import itertools
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import cast

import numpy as np
import torch
from jaxtyping import Bool, Int64, Num
from torch import nn

from ..model.folded import FoldedEmbedding
from ..model.language_model import LiquidLanguageModel
from ..model.step import LiquidStep
from ..runtime.precision import autocast
from ..text.batches import IGNORED
from ..text.token_corpus import TokenCorpus
from .token_costs import read_costs


@dataclass(frozen=True)
class Evaluation:
    """Figures of one pass over a text.

    Attributes:
        nats: Σ −ln p over the tokens of the text. The first token of a document is predicted from `<s>`; the
            end-of-document token does not count.
        tokens: number of tokens that count.
        bytes: size of the text in UTF-8.
        seconds: wall-clock time of the pass.
        state_bytes: size of the state, the same after any number of tokens.
        bf16: whether matrix products were in bfloat16, or weights in a smaller type than float32, which
            changes the figures in their fourth digit.
        time_nats: Σ −ln p of the gaps between tokens, per unit of the times (`GapDistribution`), for a model
            with a time head and a text with times; else None.
        events: number of events in a text with times; else 0.
    """

    nats: float
    tokens: int
    bytes: int
    seconds: float
    state_bytes: int
    bf16: bool
    time_nats: float | None = None
    events: int = 0

    @property
    def time_nats_per_event(self) -> float | None:
        """Σ −ln p of all gaps, including those of 0 within an event, over the number of events."""
        return None if self.time_nats is None else self.time_nats / self.events

    @property
    def bits_per_byte(self) -> float:
        """Σ −log₂ p over the tokens, over the number of bytes: comparable between tokenizers."""
        return self.nats / math.log(2) / self.bytes

    @property
    def nats_per_token(self) -> float:
        """Mean of −ln p over the tokens."""
        return self.nats / self.tokens

    @property
    def perplexity(self) -> float:
        """exp(nats per token). Comparable between models with the same tokenizer only."""
        return math.exp(min(self.nats_per_token, 700.0))

    @property
    def tokens_per_second(self) -> float:
        """Speed of the pass."""
        return self.tokens / self.seconds

    def summary(self) -> dict[str, int | float]:
        """All figures by name, for JSON."""
        derived = ("bits_per_byte", "nats_per_token", "perplexity", "tokens_per_second")
        figures = {**asdict(self), **{name: getattr(self, name) for name in derived}}
        if self.time_nats is None:
            return {name: figure for name, figure in figures.items() if name not in ("time_nats", "events")}
        return {**figures, "time_nats_per_event": cast(float, self.time_nats_per_event)}


@torch.inference_mode()
def evaluate(
    model: LiquidLanguageModel,
    corpus: TokenCorpus,
    *,
    eos_token_id: int,
    chunk: int = 4096,
    bf16: bool = False,
    step: LiquidStep | None = None,
    progress: Callable[[int], object] | None = None,
) -> Evaluation:
    """Bits per byte and other figures of `model` on `corpus`, in constant memory for any document length.

    The documents are read one after the other as one row, with an infinite gap between them. The model's mode
    (training or evaluation) is restored afterwards.

    Args:
        model: the language model.
        corpus: the tokens of the text (`tokenize_documents`).
        eos_token_id: id of the end-of-document token, which does not count.
        chunk: tokens per pass of the model.
        bf16: whether matrix products of the model are in bfloat16.
        step: the model's, which reads in its place, in the type of its own weights. On a CPU it is faster.
        progress: called after every chunk with the number of tokens read.

    Raises:
        LiquidError: a token id is outside the model's vocabulary.

    Example:
        >>> from liquidlm.inference.saving import load_model
        >>> from liquidlm.text.corpus import Document
        >>> from liquidlm.text.tokenization import tokenize_documents
        >>> model, tokenizer = load_model("stories")
        >>> story = Document("Once upon a time there was a girl.", "a story")
        >>> corpus = tokenize_documents([story], tokenizer)
        >>> found = evaluate(model, corpus, eos_token_id=tokenizer.eos_token_id)
        >>> found.bytes, found.bits_per_byte < 3
        (34, True)
    """
    with evaluating(model):
        form = ByModel(model, bf16) if step is None else ByStep(step)
        begin, total = time.perf_counter(), Pass(form, corpus, eos_token_id)
        for first in range(0, corpus.tokens.size, chunk):
            total.read(first, chunk)
            if progress is not None:
                progress(min(first + chunk, corpus.tokens.size))
        return total.evaluation(time.perf_counter() - begin)


class Pass:
    """One pass over a corpus: the sums so far."""

    def __init__(self, form: "ByModel | ByStep", corpus: TokenCorpus, eos_token_id: int):
        self.form, self.corpus, self.eos_token_id = form, corpus, eos_token_id
        self.nats, self.time_nats, self.tokens = 0.0, 0.0, 0

    def read(self, first: int, count: int) -> None:
        """Read `count` tokens from number `first` on, and add their figures."""
        ids, begins = _part(self.corpus, first, count)
        # The end-of-document token does not count, nor does the <s> of the next document after it.
        counted = ~(begins[1:] | (ids[1:] == self.eos_token_id))
        times = None
        if self.corpus.times is not None:
            times = self.corpus.times[first : first + len(ids)]
            times = np.append(times, times[-1:])[: len(ids)]
        nats, time_nats = self.form.read(ids, begins, counted, times)
        self.nats += nats
        self.time_nats += time_nats
        self.tokens += int(counted.sum())

    def evaluation(self, seconds: float) -> Evaluation:
        """The figures of the whole pass, which took `seconds`."""
        timed = self.corpus.times is not None and self.form.model.config.time_components > 0
        return Evaluation(
            nats=self.nats,
            tokens=self.tokens,
            bytes=self.corpus.text_bytes,
            seconds=seconds,
            state_bytes=self.form.state.nbytes,
            bf16=self.form.bf16,
            time_nats=self.time_nats if timed else None,
            events=self.corpus.events,
        )


class ByModel:
    """Reads by the model itself."""

    def __init__(self, model: LiquidLanguageModel, bf16: bool):
        self.model, self.bf16 = model, bf16
        self.state, self.table = model.new_state(), FoldedEmbedding(model)

    def read(
        self,
        ids: Int64[np.ndarray, " n_plus_1"],
        begins: Bool[np.ndarray, " n_plus_1"],
        counted: Bool[np.ndarray, " n"],
        times: Num[np.ndarray, " n_plus_1"] | None,
    ) -> tuple[float, float]:
        """Σ −ln p of the tokens that count, and of the gaps before them, per unit of the times."""
        device, clock, gaps = self.model.device, {}, 0
        inputs, starts = (torch.from_numpy(one[:-1])[None].to(device) for one in (ids, begins))
        targets = torch.from_numpy(np.where(counted, ids[1:], IGNORED))[None].to(device)
        if times is not None:
            before, after = (torch.from_numpy(one)[None].to(device) for one in (times[:-1], times[1:]))
            clock = {"timestamps": before, "shift_timestamps": after}
            gaps = int((np.diff(times) > 0)[counted].sum())
        with autocast(device, self.bf16):
            output = self.model(
                inputs,
                starts=starts,
                past_key_values=self.state,
                use_cache=True,
                shift_labels=targets,
                num_items_in_batch=1,
                logits_to_keep=1,
                table=self.table,
                **clock,
            )
        if output.time_loss is None:
            return output.loss.item(), 0.0
        of_gaps = output.time_loss.item()
        # The loss has densities per time_scale.
        return output.loss.item() - of_gaps, of_gaps + gaps * math.log(self.model.config.time_scale)


class ByStep:
    """Reads by a `LiquidStep`, document by document."""

    def __init__(self, step: LiquidStep):
        self.step, self.model = step, step.model
        self.bf16 = step.weights != "float32"
        self.state = step.model.new_state()

    def read(
        self,
        ids: Int64[np.ndarray, " n_plus_1"],
        begins: Bool[np.ndarray, " n_plus_1"],
        counted: Bool[np.ndarray, " n"],
        times: Num[np.ndarray, " n_plus_1"] | None,
    ) -> tuple[float, float]:
        """As `ByModel.read`."""
        nats = time_nats = 0.0
        cuts = [0, *(np.flatnonzero(begins[1:-1]) + 1), len(ids) - 1]
        for first, end in itertools.pairwise(cuts):
            if begins[first]:
                self.state = self.model.new_state()
            clock = None
            if times is not None:
                clock = times[first : end + 1].astype(np.float64)
                if begins[end]:  # the next document has its own clock
                    clock[-1] = clock[-2]
            costs = read_costs(self.step, ids[first : end + 1], clock, self.state)
            nats += float(costs.nats @ counted[first:end])
            time_nats += float(costs.when @ counted[first:end])
        return nats, time_nats


def _part(
    corpus: TokenCorpus, first: int, count: int
) -> tuple[Int64[np.ndarray, " n_plus_1"], Bool[np.ndarray, " n_plus_1"]]:
    """Up to `count` tokens and the one after them, and which of them begin a document. After the last token
    of the corpus comes the beginning of a further document."""
    ids = corpus.tokens[first : first + count + 1].astype(np.int64)
    begins = np.zeros(len(ids), dtype=bool)
    among = slice(*np.searchsorted(corpus.starts, (first, first + len(ids))))
    begins[corpus.starts[among] - first] = True
    if first + count >= corpus.size:
        ids, begins = np.append(ids, 0), np.append(begins, True)
    return ids, begins


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode for a `with` block; then every module is in its previous mode."""
    modes = [(part, part.training) for part in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training
