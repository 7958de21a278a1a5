"""Reads a prompt into a text's state, and prints the text that follows while it is written."""

import copy
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from rich.console import Console

from ..inference.generate import read_output, write, write_timed
from ..inference.sampling import Sampling
from ..inference.timed_text import Prompt, TimedLines, TimedToken, timed_prompt
from ..model.language_model import LiquidLanguageModel
from ..model.step import LiquidStep
from ..nn.state import LiquidCache
from ..ops.native.step import Weights
from ..runtime.memory import peak_memory
from ..text.tokenizer import LEDTokenizerWrapper
from .text_so_far import TextSoFar, say

LONG = 20_000
"""Prompts of more tokens show the progress of reading."""
PIECE = 2_048
"""Tokens of a prompt that are read between two checks for signals."""


@dataclass
class Writer:
    """Writes texts with one model, one after the other.

    Attributes:
        sampling: of the first text; each further text takes the next seed.
        max_new_tokens: of each text; 0 writes nothing.
        timestamps: tokens have times, and every line is printed with its time.
        verbose: print sizes and rates on standard error.
        weights: their type while text is written (`LiquidStep`).
        texts: number of texts written so far.
    """

    model: LiquidLanguageModel
    tokenizer: LEDTokenizerWrapper
    sampling: Sampling
    max_new_tokens: int
    timestamps: bool = False
    verbose: bool = False
    weights: Weights = "float32"
    texts: int = 0

    def prompt(self, text: TextSoFar, prompt: str, after: float | None = None) -> Prompt:
        """The unread tokens of `text` and those of `prompt`; with timestamps, a new line `after` seconds."""
        if self.timestamps:
            continued = text.state if text.state.get_seq_length() else None
            return timed_prompt(prompt, self.tokenizer, text.tokens, continued, after)
        tokens = [*(timed.token for timed in text.tokens), *self.tokenizer.encode(prompt).tolist()]
        return Prompt(torch.tensor([tokens]), None, prompt, None)

    def read(self, text: TextSoFar, given: Prompt, stopped: list[int]) -> bool:
        """Read all of a prompt but its last token into the text's state, in pieces; False if a signal came.

        Then the text ends where the reading stopped.
        """
        begin, unread = time.perf_counter(), len(text.tokens)
        text.tokens = given.tokens()
        self._read_pieces(text, given, stopped)
        if self.verbose:
            seconds = time.perf_counter() - begin
            say(f"read {text.read:,} tokens in {seconds:.2f} s; state {text.state.nbytes:,} bytes")
        whole = text.read == len(text.tokens) - 1
        if not whole:
            text.cut(self.tokenizer, unread)
        return whole

    def _read_pieces(self, text: TextSoFar, given: Prompt, stopped: list[int]) -> None:
        ids, total = given.ids.to(self.model.device), given.ids.shape[1] - 1
        times = None if given.times is None else given.times.to(self.model.device)
        console = Console(stderr=True, highlight=False)
        with console.status(f"reading {total:,} tokens") if total >= LONG else nullcontext() as status:
            for first in range(0, total, PIECE):
                if stopped:
                    return
                part, state = slice(first, min(first + PIECE, total)), text.state.copy()
                part_times = None if times is None else times[:, part]
                read_output(self.model, ids[:, part], state, part_times, step=self._step)
                text.state, text.read = state, part.stop
                if status is not None:
                    status.update(f"read {text.read:,} of {total:,} tokens")

    def write(
        self, text: TextSoFar, given: Prompt, stopped: list[int], shown: str = "", samples: int = 1
    ) -> None:
        """Print what follows a prompt that was read, up to a signal; the prompt is `shown` before it.

        Several samples are separated by a line; the last is added to the text.
        """
        if not self.max_new_tokens:
            print(shown, flush=True)
            return
        state = text.state.copy()
        times = None if given.times is None else given.times[:, -1:].to(self.model.device)
        ids = given.ids[:, -1:].to(self.model.device)
        output = read_output(self.model, ids, state, times, step=self._step)
        for number in range(samples):
            if samples > 1:
                print(f"--- sample {number + 1}")
            own, begin = state.copy(), time.perf_counter()
            print(shown, end="", flush=True)
            written: list[TimedToken] = []
            try:
                self._print(self._tokens(text, output, own), copy.copy(given.lines), written, stopped)
            finally:
                if number + 1 == samples and written:
                    text.add(written, own)
            if self.verbose:
                pace = (time.perf_counter() - begin) / len(written)
                say(f"wrote {len(written):,} tokens, {1000 * pace:.2f} ms each")
                say(f"peak memory {peak_memory() / 2**20:,.0f} MiB")
            if stopped:
                break

    def _tokens(self, text: TextSoFar, output: Any, state: LiquidCache) -> Iterator[tuple[Any, Any]]:
        """The tokens of one text as they are drawn, with their times (0 without timestamps)."""
        seed = self.sampling.seed
        sampling = replace(self.sampling, seed=None if seed is None else seed + self.texts)
        self.texts += 1
        how: dict[str, Any] = {
            "context": torch.tensor([text.recent()], device=self.model.device),
            "stop": [self.tokenizer.eos_token_id],
            "step": self._step,
        }
        if self.timestamps:
            return write_timed(self.model, output, state, sampling, self.max_new_tokens, **how)
        logits = output.logits[:, -1].float()
        tokens = write(self.model, logits, state, sampling, self.max_new_tokens, **how)
        return ((token, 0.0) for token in tokens)

    def _print(
        self,
        writing: Iterator[tuple[Any, Any]],
        lines: TimedLines | None,
        written: list[TimedToken],
        stopped: list[int],
    ) -> None:
        """Print tokens as they come, and add them to `written`, up to the end or a signal."""
        decoder = self.tokenizer.stream()
        for token, time_ in writing:
            written.append(TimedToken(int(token), float(time_)))
            piece = decoder.push(written[-1].token)
            print(piece if lines is None else lines.push(piece, float(time_)), end="", flush=True)
            if stopped:
                break
        print(decoder.flush(), flush=True)

    @cached_property
    def _step(self) -> LiquidStep:
        return LiquidStep(self.model, weights=self.weights)
