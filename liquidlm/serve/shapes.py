"""OpenAI's JSON for completions and chat, streamed or complete."""

import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

from ..text.tokenizer import LEDTokenizerWrapper
from .completion_text import TextDelta
from .writer import Choice

Json = dict[str, Any]


class Shape(ABC):
    """The JSON of one response.

    Args:
        model: the model's name.
        tokenizer: decodes single tokens.
        logprobs: whether the request asks for probabilities.
    """

    kind: str
    prefix: str
    chunk_kind: str

    def __init__(self, model: str, tokenizer: LEDTokenizerWrapper, logprobs: bool):
        self.tokenizer, self.logprobs = tokenizer, logprobs
        self.head = {
            "id": f"{self.prefix}-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": model,
        }

    def chunk(self, choices: list[Json], usage: Json | None = None) -> Json:
        """A chunk of a streamed response."""
        own = {**self.head, "object": self.chunk_kind, "choices": choices}
        return own if usage is None else {**own, "usage": usage}

    def complete(self, texts: Sequence[list[TextDelta]], usage: Json) -> Json:
        """A complete response, from the text of every choice."""
        choices = [self.choice(i, deltas) for i, deltas in enumerate(texts)]
        return {**self.head, "object": self.kind, "choices": choices, "usage": usage}

    def opening(self, index: int) -> Json | None:
        """The first part of a streamed choice, before any text; None if there is none."""
        return None

    @abstractmethod
    def part(self, index: int, delta: TextDelta) -> Json:
        """A part of a completion, as a choice of a chunk."""

    @abstractmethod
    def choice(self, index: int, deltas: list[TextDelta]) -> Json:
        """A completion that is not streamed, as a choice."""

    def shown(self, token: int) -> str:
        """A token as text; bytes that are not whole characters become U+FFFD."""
        return self.tokenizer.token_bytes(token).decode(errors="replace")


class CompletionShape(Shape):
    """The JSON of completions."""

    kind = chunk_kind = "text_completion"
    prefix = "cmpl"

    def part(self, index: int, delta: TextDelta) -> Json:
        """A choice with this part alone."""
        return self.choice(index, [delta])

    def choice(self, index: int, deltas: list[TextDelta]) -> Json:
        """A choice with the joined text."""
        return {
            "index": index,
            "text": "".join(delta.text for delta in deltas),
            "logprobs": self._logprobs(deltas) if self.logprobs else None,
            "finish_reason": _reason(deltas),
        }

    def _logprobs(self, deltas: Iterable[TextDelta]) -> Json:
        tokens = [pair for delta in deltas for pair in delta.tokens]
        return {
            "tokens": [self.shown(token.id) for token, _ in tokens],
            "token_logprobs": [token.logprob for token, _ in tokens],
            # Several tokens may be shown alike (parts of characters): the likeliest of them is kept.
            "top_logprobs": [
                None
                if token.logprob is None
                else {self.shown(i): value for i, value in reversed(token.likeliest)}
                for token, _ in tokens
            ],
            "text_offset": [at for _, at in tokens],
        }


class ChatShape(Shape):
    """The JSON of chat."""

    kind, chunk_kind = "chat.completion", "chat.completion.chunk"
    prefix = "chatcmpl"

    def opening(self, index: int) -> Json:
        """The role, without text."""
        return self._delta(index, {"role": "assistant", "content": ""}, [], None)

    def part(self, index: int, delta: TextDelta) -> Json:
        """A choice with the new text (`delta`)."""
        content = {"content": delta.text} if delta.text else {}
        return self._delta(index, content, [delta], _reason([delta]))

    def _delta(self, index: int, delta: Json, deltas: list[TextDelta], reason: str | None) -> Json:
        return {
            "index": index,
            "delta": delta,
            "logprobs": self._logprobs(deltas) if self.logprobs else None,
            "finish_reason": reason,
        }

    def choice(self, index: int, deltas: list[TextDelta]) -> Json:
        """A choice with the whole message."""
        return {
            "index": index,
            "message": {"role": "assistant", "content": "".join(delta.text for delta in deltas)},
            "logprobs": self._logprobs(deltas) if self.logprobs else None,
            "finish_reason": _reason(deltas),
        }

    def _logprobs(self, deltas: Iterable[TextDelta]) -> Json:
        content = [
            {
                **self._one(token.id, token.logprob),
                "top_logprobs": [self._one(i, value) for i, value in token.likeliest],
            }
            for delta in deltas
            for token, _ in delta.tokens
        ]
        return {"content": content, "refusal": None}

    def _one(self, token: int, logprob: float | None) -> Json:
        own = self.tokenizer.token_bytes(token)
        return {"token": own.decode(errors="replace"), "logprob": logprob, "bytes": list(own)}


def _reason(deltas: list[TextDelta]) -> str | None:
    end = deltas[-1].end if deltas else None
    return None if end is None else end.reason


def counts(choices: Sequence[Choice], per_prompt: int) -> dict[str, int]:
    """Numbers of tokens read and written. Each prompt counts once for its `per_prompt` choices."""
    firsts = choices[::per_prompt]
    return {
        "prompt_tokens": sum(one.job.prompt.length for one in firsts),
        "cached_tokens": sum(choice.cached for choice in firsts),
        "completion_tokens": sum(choice.text.tokens for choice in choices),
    }


def usage(choices: Sequence[Choice], per_prompt: int) -> Json:
    """The same in OpenAI's form."""
    found = counts(choices, per_prompt)
    read, written = found["prompt_tokens"], found["completion_tokens"]
    return {
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": read + written,
        "prompt_tokens_details": {"cached_tokens": found["cached_tokens"]},
    }
