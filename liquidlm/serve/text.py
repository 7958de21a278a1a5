"""Tokens as they come ▶ text that may be sent, up to where it is to stop."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..inference.timed_text import TimedLines
from ..text.tokenizer import LEDTokenizerWrapper
from .jobs import Ended, Token


@dataclass(frozen=True)
class Piece:
    """A part of a text.

    Attributes:
        tokens: those that begin in it, and where in the whole text.
        end: why the text ends here, if it does.
    """

    text: str
    tokens: list[tuple[Token, int]] = field(default_factory=list)
    end: Ended | None = None


class Text:
    """What is written, with the stop strings left out and nothing sent that may be the beginning of one.

    Args:
        lines: puts times before lines.
        lead: what the text may begin with and is left out.

    Attributes:
        tokens: how many were drawn.
    """

    def __init__(
        self,
        tokenizer: LEDTokenizerWrapper,
        stop: Sequence[str],
        lines: TimedLines | None = None,
        lead: str = "",
    ):
        self.tokens, self._lead = 0, lead
        self._decoder, self._stop, self._lines = tokenizer.stream(), tuple(stop), lines
        self._held, self._length = "", 0
        """What is not sent yet, and how long the text is with it."""
        self._kept: list[tuple[Token, int]] = []
        """Tokens that begin where nothing is sent yet."""

    def push(self, token: Token) -> Piece:
        self.tokens += 1
        self._kept.append((token, self._length))
        new = self._decoder.push(token.id)
        if new:
            new, self._lead = new.removeprefix(self._lead), ""
        if self._lines is not None and token.time is not None:
            new = self._lines.push(new, token.time)
        return self._sent(new)

    def end(self, ended: Ended) -> Piece:
        """What was held back, and the end."""
        if ended.reason == "stop":  # at the model's own end, whose mark is no text
            self._kept = self._kept[:-1]
        piece = self._sent(self._decoder.flush())
        if piece.end is not None:
            return piece
        return Piece(piece.text + self._held, piece.tokens + self._kept, ended)

    def _sent(self, new: str) -> Piece:
        self._length += len(new)
        self._held += new
        found = [at for stop in self._stop if (at := self._held.find(stop)) >= 0]
        if found:
            cut, end = min(found), Ended("stop")
        else:
            kept = max((_overlap(self._held, stop) for stop in self._stop), default=0)
            cut, end = len(self._held) - kept, None
        sent, self._held = self._held[:cut], self._held[cut:]
        reach = self._length - len(self._held)
        tokens = [(token, at) for token, at in self._kept if at < reach]
        self._kept = self._kept[len(tokens) :]
        return Piece(sent, tokens, end)


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that `stop` begins with."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if stop.startswith(text[-n:])), 0)
