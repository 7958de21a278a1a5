"""Prompts of requests become tokens: off the event loop if they are long, and never more than the limit."""

import threading

import numpy as np
from jaxtyping import Int64

from ..errors import LiquidError
from ..inference.timed_text import TimedLines, continued_prompt, timed_prompt
from ..text.tokenizer import LEDTokenizerWrapper
from .prefixes import Base, HashedPrompt
from .threads import Left, in_thread

LONG = 20_000
"""Longer prompts, in characters or ids, are tokenized in a thread, not in the event loop."""
LONGEST_WORD = 1 << 20
"""Characters without a place where they can be cut: the memory to tokenize them grows with them."""


class PromptReader:
    """Makes prompts of texts and of ids.

    Args:
        tokenizer: of the model.
        vocab_size: of the model.
        most: the most tokens of a prompt.
    """

    def __init__(self, tokenizer: LEDTokenizerWrapper, vocab_size: int, most: int):
        self.tokenizer, self.vocab_size, self.most = tokenizer, vocab_size, most

    async def text(self, text: str, base: Base | None = None) -> HashedPrompt:
        """The tokens of a text, after what was read before, or after `<s>`.

        Raises:
            LiquidError: it is too long.
        """
        if len(text) <= LONG:
            return self._of_text(text, base, threading.Event())
        return await in_thread(lambda gone: self._of_text(text, base, gone))

    async def ids(self, given: list[int], base: Base | None = None) -> HashedPrompt:
        """These tokens, after what was read before, or after `<s>`; one that they begin with is enough.

        Raises:
            LiquidError: one of them does not exist, or there are too many.
        """
        if len(given) <= LONG:
            return self._of_ids(given, base)
        return await in_thread(lambda _: self._of_ids(given, base))

    async def timed(
        self, text: str, after: float | None, base: Base | None = None
    ) -> tuple[HashedPrompt, str, TimedLines | None]:
        """The prompt of a text whose lines begin with times, the text as it is printed, and what prints times
        before the lines that follow. After what was read before, its clock goes on.

        Raises:
            LiquidError: it is too long, or its times do not fit.
        """

        def read(gone: threading.Event) -> tuple[HashedPrompt, str, TimedLines | None]:
            self._encoded(text, [] if base else self._start, gone)
            if base is None:
                found = timed_prompt(text, self.tokenizer, after=after)
            else:
                lines = TimedLines(begins_line(self.tokenizer, base))
                found = continued_prompt(text, self.tokenizer, base.snapshot.last_time, lines, after)
            assert found.times is not None
            self._check(found.ids.shape[1])
            added = 0 if base else 1
            prompt = HashedPrompt(found.ids[0].numpy(), found.times[0].numpy(), base, added)
            return prompt, found.shown, found.lines

        return await in_thread(read)

    @property
    def _start(self) -> list[int]:
        return [self.tokenizer.bos_token_id]

    def _of_text(self, text: str, base: Base | None, gone: threading.Event) -> HashedPrompt:
        start = [] if base else self._start
        return HashedPrompt(self._encoded(text, start, gone), base=base, added=len(start))

    def _encoded(self, text: str, start: list[int], gone: threading.Event) -> Int64[np.ndarray, " t"]:
        """The tokens after `start`, piece by piece: a text that is too long is not tokenized to its end."""
        found, length = [np.array(start, np.int64)], len(start)
        for ids in self.tokenizer.encode_parts(text, LONGEST_WORD):
            found.append(ids)
            length += len(ids)
            self._check(length)
            if gone.is_set():
                raise Left
        return np.concatenate(found).astype(np.int64)

    def _of_ids(self, given: list[int], base: Base | None) -> HashedPrompt:
        start = [] if base or given[:1] == self._start else self._start
        self._check(len(start) + len(given))
        ids = np.array([*start, *given], np.int64)
        if (largest := ids.max(initial=0)) >= self.vocab_size:
            raise LiquidError(f"prompt: there is no token {largest}: the largest id is {self.vocab_size - 1}")
        return HashedPrompt(ids, base=base, added=len(start))

    def _check(self, length: int) -> None:
        if length > self.most:
            raise LiquidError(f"the prompt has over {self.most:,} tokens: send at most {self.most:,}")


def begins_line(tokenizer: LEDTokenizerWrapper, base: Base | None) -> bool:
    """Whether a text after `base` begins a line."""
    last = [] if base is None else [token for token in base.tail.tolist() if token != tokenizer.bos_token_id]
    return not last or tokenizer.token_bytes(last[-1]).endswith(b"\n")
