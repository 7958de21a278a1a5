"""Tokens of a completion become text that may be sent, up to the first stop string."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..inference.timed_text import TimedLines
from ..text.tokenizer import LEDTokenizerWrapper
from .jobs import Finished
from .tokens import Token


@dataclass(frozen=True)
class TextDelta:
    """The next part of a completion's text.

    Attributes:
        text: the characters.
        tokens: the tokens that begin in it, with their offsets in the completion, in characters.
        end: why the completion ends here; None if it goes on.
    """

    text: str
    tokens: list[tuple[Token, int]] = field(default_factory=list)
    end: Finished | None = None

    @classmethod
    def joined(cls, deltas: Sequence["TextDelta"]) -> "TextDelta":
        """Parts in order, as one."""
        if len(deltas) == 1:
            return deltas[0]
        text = "".join(delta.text for delta in deltas)
        return cls(text, [token for delta in deltas for token in delta.tokens], deltas[-1].end)


class CompletionText:
    """Decodes the tokens of a completion, and holds back text that may be the beginning of a stop string.

    Args:
        tokenizer: decodes the tokens.
        stop: strings that end the completion. They are not part of it.
        lines: writes times before lines; None for text without times.
        lead: is removed from the beginning of the completion.
        offset: characters before the completion, from which the places of its tokens are counted.
        shows_end: whether the token that ended the completion is listed too. It has no text.

    Attributes:
        tokens: number of tokens so far.
    """

    def __init__(
        self,
        tokenizer: LEDTokenizerWrapper,
        stop: Sequence[str],
        lines: TimedLines | None = None,
        lead: str = "",
        offset: int = 0,
        shows_end: bool = False,
    ):
        self.tokens, self._lead, self._shows_end = 0, lead, shows_end
        self._decoder, self._stop, self._lines = tokenizer.stream(), tuple(stop), lines
        self._held, self._length = "", offset
        """Text that is not sent yet, and the length of all text with it."""
        self._kept: list[tuple[Token, int]] = []
        """Tokens that begin in text that is not sent yet."""

    def push(self, token: Token) -> TextDelta:
        """Add a token; returns the text that may be sent now."""
        self.tokens += 1
        self._kept.append((token, self._length))
        new = self._decoder.push(token.id)
        if new:
            new, self._lead = new.removeprefix(self._lead), ""
        if self._lines is not None and token.time is not None:
            new = self._lines.push(new, token.time)
        return self._sent(new)

    def end(self, ended: Finished) -> TextDelta:
        """The text that was held back, with the end."""
        if ended.reason == "stop" and not self._shows_end:  # the end-of-document token has no text
            self._kept = self._kept[:-1]
        delta = self._sent(self._decoder.flush())
        if delta.end is not None:
            return delta
        return TextDelta(delta.text + self._held, delta.tokens + self._kept, ended)

    def _sent(self, new: str) -> TextDelta:
        self._length += len(new)
        self._held += new
        found = [at for stop in self._stop if (at := self._held.find(stop)) >= 0]
        if found:
            cut, end = min(found), Finished("stop")
        else:
            kept = max((_overlap(self._held, stop) for stop in self._stop), default=0)
            cut, end = len(self._held) - kept, None
        sent, self._held = self._held[:cut], self._held[cut:]
        reach = self._length - len(self._held)
        tokens = [(token, at) for token, at in self._kept if at < reach]
        self._kept = self._kept[len(tokens) :]
        return TextDelta(sent, tokens, end)


def _overlap(text: str, stop: str) -> int:
    """Length of the longest suffix of `text` that is a prefix of `stop`."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if stop.startswith(text[-n:])), 0)
