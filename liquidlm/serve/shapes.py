"""Pieces of text ▶ OpenAI's JSON: completions and chat, in chunks or whole."""

import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

from ..text.tokenizer import LEDTokenizerWrapper
from .text import Piece
from .writer import Choice

Json = dict[str, Any]


class Shape(ABC):
    """One answer's form.

    Attributes:
        logprobs: whether probabilities were asked for.
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
        own = {**self.head, "object": self.chunk_kind, "choices": choices}
        return own if usage is None else {**own, "usage": usage}

    def whole(self, texts: Sequence[list[Piece]], usage: Json) -> Json:
        choices = [self.choice(i, pieces) for i, pieces in enumerate(texts)]
        return {**self.head, "object": self.kind, "choices": choices, "usage": usage}

    def opening(self, index: int) -> Json | None:
        """What a streamed choice begins with, if with anything."""
        return None

    @abstractmethod
    def part(self, index: int, piece: Piece) -> Json:
        """A piece as a choice of a chunk."""

    @abstractmethod
    def choice(self, index: int, pieces: list[Piece]) -> Json:
        """All pieces of a text as a choice."""

    def shown(self, token: int) -> str:
        return self.tokenizer.token_bytes(token).decode(errors="replace")


class CompletionShape(Shape):
    kind = chunk_kind = "text_completion"
    prefix = "cmpl"

    def part(self, index: int, piece: Piece) -> Json:
        return self.choice(index, [piece])

    def choice(self, index: int, pieces: list[Piece]) -> Json:
        return {
            "index": index,
            "text": "".join(piece.text for piece in pieces),
            "logprobs": self._logprobs(pieces) if self.logprobs else None,
            "finish_reason": _reason(pieces),
        }

    def _logprobs(self, pieces: Iterable[Piece]) -> Json:
        tokens = [pair for piece in pieces for pair in piece.tokens]
        return {
            "tokens": [self.shown(token.id) for token, _ in tokens],
            "token_logprobs": [token.logprob for token, _ in tokens],
            # Parts of characters look alike: the likeliest of them is told.
            "top_logprobs": [
                {self.shown(i): value for i, value in reversed(token.likeliest)} for token, _ in tokens
            ],
            "text_offset": [at for _, at in tokens],
        }


class ChatShape(Shape):
    kind, chunk_kind = "chat.completion", "chat.completion.chunk"
    prefix = "chatcmpl"

    def opening(self, index: int) -> Json:
        return self._delta(index, {"role": "assistant", "content": ""}, [], None)

    def part(self, index: int, piece: Piece) -> Json:
        delta = {"content": piece.text} if piece.text else {}
        return self._delta(index, delta, [piece], _reason([piece]))

    def _delta(self, index: int, delta: Json, pieces: list[Piece], reason: str | None) -> Json:
        return {
            "index": index,
            "delta": delta,
            "logprobs": self._logprobs(pieces) if self.logprobs else None,
            "finish_reason": reason,
        }

    def choice(self, index: int, pieces: list[Piece]) -> Json:
        return {
            "index": index,
            "message": {"role": "assistant", "content": "".join(piece.text for piece in pieces)},
            "logprobs": self._logprobs(pieces) if self.logprobs else None,
            "finish_reason": _reason(pieces),
        }

    def _logprobs(self, pieces: Iterable[Piece]) -> Json:
        content = [
            {
                **self._one(token.id, token.logprob),
                "top_logprobs": [self._one(i, value) for i, value in token.likeliest],
            }
            for piece in pieces
            for token, _ in piece.tokens
        ]
        return {"content": content, "refusal": None}

    def _one(self, token: int, logprob: float | None) -> Json:
        own = self.tokenizer.token_bytes(token)
        return {"token": own.decode(errors="replace"), "logprob": logprob, "bytes": list(own)}


def _reason(pieces: list[Piece]) -> str | None:
    end = pieces[-1].end if pieces else None
    return None if end is None else end.reason


def usage(choices: Sequence[Choice], per_prompt: int) -> Json:
    """Tokens read, of each prompt once for its `per_prompt` choices, and written."""
    firsts = choices[::per_prompt]
    read, written = (
        sum(len(one.job.prompt.ids) for one in firsts),
        sum(choice.text.tokens for choice in choices),
    )
    return {
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": read + written,
        "prompt_tokens_details": {"cached_tokens": sum(choice.cached for choice in firsts)},
    }
