"""The prompt at the beginning of a completion, perhaps with the probabilities of its tokens."""

from dataclasses import dataclass

from ..inference.timed_text import TimedLines
from ..text.tokenizer import LEDTokenizerWrapper
from .completion_text import TextDelta
from .prefixes import HashedPrompt
from .prompt_scores import PromptScores
from .prompts import begins_line
from .tokens import Token


@dataclass(frozen=True)
class Echo:
    """The text of a prompt, to be sent before the completion.

    Attributes:
        text: of the prompt, without the `<s>` that the server put before it.
        tokenizer: decodes its tokens.
    """

    text: str
    tokenizer: LEDTokenizerWrapper

    def scored(self, prompt: HashedPrompt, scores: PromptScores) -> TextDelta:
        """The text with its tokens, their probabilities and their places in the text."""
        placed: list[tuple[Token, int]] = []
        length, decoder = 0, self.tokenizer.stream()
        lines = TimedLines(begins_line(self.tokenizer, prompt.base))
        for i, token in enumerate(scores.tokens(prompt.added), prompt.added):
            placed.append((token, length))
            new = decoder.push(token.id)
            length += len(new if prompt.times is None else lines.push(new, float(prompt.times[i])))
        return TextDelta(self.text, placed)
