"""A model for a log that none has seen: random weights, and scales of time from the first lines."""

import numpy as np
import torch

from ..inference.line_cutter import LineCutter
from ..inference.log_lines import LogPosition
from ..model.config import LiquidConfig
from ..model.language_model import LiquidLanguageModel
from ..text.reading import ReadingOptions
from ..text.stream_events import LineFinder
from ..text.token_corpus import TokenCorpus
from ..text.tokenizer import LEDTokenizerWrapper
from .clock import clock

SIZES = {
    "hidden_size": 96,
    "num_hidden_layers": 3,
    "embedding_dim": 64,
    "latent_dim": 32,
    "ngram_rows": 4096,
}
"""Of the model: 0.6 million parameters. It learns a simple log as well as size tiny, 1.7 times as fast."""
ENOUGH = 8
"""With fewer gaps than this, the resolution of the clock is not known."""


def fresh_model(
    data: bytes, options: ReadingOptions, device: torch.device | None = None
) -> tuple[LiquidLanguageModel, LEDTokenizerWrapper]:
    """A model of SIZES for bytes, and its tokenizer. It has a time head if the first lines have times.

    Args:
        data: the first lines of the log.
        options: how the log is read.
        device: where the model computes; None is the CPU.

    Raises:
        LiquidError: the kind of their times is not clear.

    Example:
        >>> model, _ = fresh_model(b"[10] on\\n[12.5] off\\n[15] on\\n", ReadingOptions())
        >>> model.config.time_scale, model.config.memory_scale
        (2.5, 75.0)
        >>> fresh_model(b"on\\noff\\n", ReadingOptions())[0].time_head is None
        True
    """
    tokenizer = LEDTokenizerWrapper.bytes()
    sizes = {**SIZES, **_clock(data, options, tokenizer.bos_token_id)}
    config = LiquidConfig(vocab_size=tokenizer.vocab_size, dropout_rate=0.0, **sizes)  # pyright: ignore[reportArgumentType]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LiquidLanguageModel.of(config)
    return model.eval().to(device or torch.device("cpu")), tokenizer


def _clock(data: bytes, options: ReadingOptions, bos: int) -> dict[str, int | float]:
    """The fields of `LiquidConfig` for the times of these lines; none if they have no times."""
    position, times = LogPosition(bos, options), []
    cutter = LineCutter(options.encoding, options.errors)
    parts, rest = position.records(cutter.push(data)), cutter.push(b"", final=True)
    if position.finder is None or isinstance(position.finder, LineFinder):
        parts += position.records(rest)  # of a record, only the beginning may have come
    if position.finder is None:
        return {}
    for part in parts:
        position.put(part, timed=True)
        if position.time is not None:
            times.append(position.time)
    found = np.array(times)
    corpus = TokenCorpus(np.zeros(len(times), dtype=np.int32), np.zeros(1, dtype=np.int64), 0, found)
    few = int((np.diff(found) > 0).sum()) < ENOUGH
    return clock(corpus) | ({"time_resolution": 0.0} if few else {})
