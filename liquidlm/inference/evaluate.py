"""Likelihood of held-out text: whole documents, the state carried from the first byte to the last."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import cast

import numpy as np
import torch
from jaxtyping import Bool, Int64
from torch import Tensor, nn

from ..model.folded import FoldedEmbedding
from ..model.language_model import LiquidTextGenerationModel
from ..runtime.precision import autocast
from ..text.batches import IGNORED
from ..text.token_corpus import TokenCorpus


@dataclass(frozen=True)
class Evaluation:
    """Figures of one pass over a text.

    Attributes:
        nats: Σ −ln p over the text's tokens; a document's first is predicted from `<s>`, and its end mark
            does not count.
        tokens, bytes: of the text; bytes are those of its UTF-8 form.
        time_nats: Σ −ln p of the gaps between tokens, per second or other unit of the times
            (`GapDistribution`), for a model with a time head and text with times; else None.
        events: of the text, if it has times.
        seconds: wall-clock time of the pass.
        state_bytes: size of the state, the same after any number of tokens.
        bf16: whether matrix products were in bfloat16, which moves the figures in their fourth digit.
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
        """Of all gaps together, those of 0 within an event too, over the number of events."""
        return None if self.time_nats is None else self.time_nats / self.events

    @property
    def bits_per_byte(self) -> float:
        return self.nats / math.log(2) / self.bytes

    @property
    def nats_per_token(self) -> float:
        return self.nats / self.tokens

    @property
    def perplexity(self) -> float:
        """Per token, so only comparable under the same tokenizer; bits per byte always are."""
        return math.exp(min(self.nats_per_token, 700.0))

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds

    def summary(self) -> dict[str, int | float]:
        """All figures, for JSON."""
        derived = ("bits_per_byte", "nats_per_token", "perplexity", "tokens_per_second")
        figures = {**asdict(self), **{name: getattr(self, name) for name in derived}}
        if self.time_nats is None:
            return {name: figure for name, figure in figures.items() if name not in ("time_nats", "events")}
        return {**figures, "time_nats_per_event": cast(float, self.time_nats_per_event)}


@torch.inference_mode()
def evaluate(
    model: LiquidTextGenerationModel,
    corpus: TokenCorpus,
    *,
    eos_token_id: int,
    chunk: int = 4096,
    bf16: bool = False,
    progress: Callable[[int], object] | None = None,
) -> Evaluation:
    """Bits per byte and more of `model` on `corpus`, in constant memory however long a document is.

    Documents are read end to end as one row; an infinite gap between them keeps them apart. `progress`
    is told the number of tokens read after every chunk. The model's mode is left as it was.
    """
    with evaluating(model):
        return _evaluate(model, corpus, eos_token_id, chunk, bf16, progress)


def _evaluate(
    model: LiquidTextGenerationModel,
    corpus: TokenCorpus,
    eos_token_id: int,
    chunk: int,
    bf16: bool,
    progress: Callable[[int], object] | None,
) -> Evaluation:
    begin = time.perf_counter()
    state = model.new_state()
    table = FoldedEmbedding(model)
    times = corpus.times
    says_when = times is not None and model.config.time_components > 0
    nats, time_nats, positive, counted = 0.0, 0.0, 0, 0
    for first in range(0, corpus.tokens.size, chunk):
        read, begins = _part(corpus, first, chunk)
        ids, starts = (torch.from_numpy(one[:-1])[None].to(model.device) for one in (read, begins))
        # After a document is the next one's <s>, which counts no more than the end mark.
        uncounted = begins[1:] | (read[1:] == eos_token_id)
        targets = torch.from_numpy(np.where(uncounted, IGNORED, read[1:]))[None].to(model.device)
        clock: dict[str, Tensor] = {}
        if times is not None:
            ahead = torch.from_numpy(times[first : first + chunk + 1]).to(model.device)[None]
            ahead = torch.cat([ahead, ahead[:, -1:]], 1)[:, : ids.shape[1] + 1]
            clock = {"timestamps": ahead[:, :-1], "shift_timestamps": ahead[:, 1:]}
            positive += int(((clock["shift_timestamps"] > ahead[:, :-1]) & (targets != IGNORED)).sum())
        with autocast(model.device, bf16):
            output = model(
                ids,
                starts=starts,
                past_key_values=state,
                use_cache=True,
                shift_labels=targets,
                num_items_in_batch=1,
                logits_to_keep=1,
                table=table,
                **clock,
            )
        when = 0.0 if output.time_loss is None else output.time_loss.item()
        nats += output.loss.item() - when
        time_nats += when
        counted += int((targets != IGNORED).sum())
        if progress is not None:
            progress(min(first + chunk, corpus.tokens.size))
    time_nats += positive * math.log(model.config.time_scale)  # per unit of the times
    return Evaluation(
        nats,
        counted,
        corpus.text_bytes,
        time.perf_counter() - begin,
        state.nbytes,
        bf16,
        time_nats if says_when else None,
        corpus.events,
    )


def _part(
    corpus: TokenCorpus, first: int, count: int
) -> tuple[Int64[np.ndarray, " n_plus_1"], Bool[np.ndarray, " n_plus_1"]]:
    """Up to `count` tokens and the one after them, and which begin a document; after the last one does."""
    ids = corpus.tokens[first : first + count + 1].astype(np.int64)
    begins = np.zeros(len(ids), dtype=bool)
    among = slice(*np.searchsorted(corpus.starts, (first, first + len(ids))))
    begins[corpus.starts[among] - first] = True
    if first + count >= corpus.size:
        ids, begins = np.append(ids, 0), np.append(begins, True)
    return ids, begins


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """In evaluation mode; afterwards, whatever has happened, every part is in the mode that it was in."""
    modes = [(part, part.training) for part in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training
