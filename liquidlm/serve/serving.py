"""Requests become jobs for the engine, and their updates become responses."""

import asyncio
import copy
import json
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from fastapi import Request
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.responses import Response

from ..errors import LiquidError
from ..inference.inspection import token_time_constants
from ..inference.saving import mask_surplus
from ..inference.timed_text import TimedLines
from ..model.language_model import LiquidLanguageModel
from ..model.segments import SEGMENT
from ..nn.state import LiquidCache
from ..ops.native.step import Weights
from ..runtime.seeds import generator_seed
from ..text.tokenizer import LEDTokenizerWrapper
from ..text.utf8 import character_offsets
from .answers import error_body
from .bodies import SHARE
from .chat_format import ChatFormat
from .completion_text import CompletionText, TextDelta
from .echo import Echo
from .engine import Busy
from .ignored import IgnoredFields
from .jobs import Job
from .limits import Limits
from .metrics import ModelMetrics
from .named_states import StateStore
from .prefixes import Base, HashedPrompt
from .prompts import PromptReader
from .schema import Asked, ChatRequest, CompletionRequest, ModelCard, StreamOptions, TimeConstants
from .shapes import Shape, counts, usage
from .threads import Left, in_thread, unless_left
from .watching import FACTS
from .writer import Choice, Failed, Writer

STREAM_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
CHAT_TOKENS = 1024
"""The default limit of new tokens in a conversation."""
MAX_TIME_CONSTANT_REQUESTS = 16
"""Requests for time constants at the same time. One runs, the others wait."""


class Serving:
    """A served model: turns requests into jobs, and what the engine reports into responses.

    Args:
        model: in evaluation mode.
        tokenizer: the model's tokenizer.
        name: the model's name in requests.
        limits: of requests.
        states: that clients keep.
        weights: their type while text is written (`LiquidStep`).

    Attributes:
        writer: writes jobs; set by `start`.
        users: requests that may still give it work.
        prompts: makes prompts of texts and ids.
        chat: makes texts of conversations.
        warnings: about fields that are not known here.
        card: describes the model.
    """

    writer: Writer

    def __init__(
        self,
        model: LiquidLanguageModel,
        tokenizer: LEDTokenizerWrapper,
        name: str,
        limits: Limits,
        states: StateStore,
        weights: Weights = "float32",
    ):
        mask_surplus(model, tokenizer)
        self.model, self.tokenizer, self.name, self.limits = model, tokenizer, name, limits
        self.prompts = PromptReader(tokenizer, model.config.vocab_size, limits.prompt_tokens)
        self.chat, self.states = ChatFormat(tokenizer.backend), states
        self.warnings, self.users = IgnoredFields(), 0
        self._weights: Weights = weights
        self._one_analysis, self._analysing = asyncio.Semaphore(1), 0
        fresh = model.initial_states(1, torch.promote_types(model.dtype, torch.float32), model.device)
        self.card = ModelCard(
            id=name,
            created=int(time.time()),
            parameters=sum(p.numel() for p in model.parameters()),
            vocab_size=model.config.vocab_size,
            layers=len(fresh),
            state_bytes=LiquidCache.of_states(fresh, 0).nbytes,
            time_scale=model.config.time_scale,
            says_when=model.time_head is not None,
            max_prompt_tokens=limits.prompt_tokens,
            max_tokens=limits.new_tokens,
            max_model_len=limits.prompt_tokens + limits.new_tokens,
        )

    def start(self, metrics: ModelMetrics) -> None:
        """Begin to take work, in the event loop that calls this."""
        self.writer = Writer(self.model, self.limits, self._weights, metrics)

    def load(self) -> dict[str, int]:
        """How busy the model is, and how many states are kept."""
        kept = self.states.facts()
        states = {"named_states": len(kept), "named_states_bytes": sum(each.nbytes for each in kept)}
        return self.writer.engine.load() | states

    # ---- requests become jobs

    async def completion_choices(self, asked: CompletionRequest) -> list[Choice]:
        """`n` completions of every prompt.

        Raises:
            LiquidError: the options do not fit together, or the model; or a prompt is too long.
        """
        if asked.after is not None and not asked.timestamps:
            raise LiquidError("after needs timestamps: set timestamps to true")
        base = await self.base(asked.state)
        given = asked.prompt if isinstance(asked.prompt, list) else [asked.prompt or ""]
        prompts: list[Any] = [given] if given and isinstance(given[0], int) else given
        self._check_count(len(prompts) * asked.choices)
        asked.prompt = None  # its memory is not needed while the text is written
        most = 16 if asked.max_tokens is None else asked.max_tokens
        choices, scores = [], 0
        for prompt in prompts:
            read, shown, lines = await self._prompt(prompt, asked, base)
            echo = Echo(shown, self.tokenizer) if asked.echo else None
            scores += asked.choices * len(read.ids) * (1 + (asked.logprobs or 0)) if asked.scored else 0
            self._check_scores(scores)
            how = {"offset": len(shown), "shows_end": True} if asked.scored else {}
            for number in range(asked.choices):
                text = CompletionText(self.tokenizer, asked.stops, copy.copy(lines), **how)
                job = self._job(read, asked, most, asked.logprobs, number)
                job.prompt_likeliest = asked.logprobs if asked.scored else None
                choices.append(Choice(job, text, echo))
        return choices

    def _check_scores(self, count: int) -> None:
        if count > self.limits.scores:
            raise LiquidError(
                f"echo with logprobs asks for over {self.limits.scores:,} probabilities of prompts (1 +"
                " logprobs for each token): send shorter prompts, or fewer in one request"
            )

    async def chat_choices(self, asked: ChatRequest) -> list[Choice]:
        """`n` continuations of a conversation. Each ends where the user's next message would begin.

        Raises:
            LiquidError: the options do not fit together, or the conversation is too long.
        """
        if asked.top_logprobs and not asked.logprobs:
            raise LiquidError("top_logprobs needs logprobs: set logprobs to true")
        self._check_count(asked.choices)
        base = await self.base(asked.state)
        text, lead = await in_thread(lambda _: self.chat.prompt(asked.messages))
        asked.messages = []  # as above
        prompt = await self.prompts.text(text if base is None else f"{self.chat.between}{text}", base)
        likeliest = (asked.top_logprobs or 0) if asked.logprobs else None
        most = asked.max_completion_tokens or asked.max_tokens or min(CHAT_TOKENS, self.limits.new_tokens)
        return [
            Choice(
                self._job(prompt, asked, most, likeliest, number),
                CompletionText(self.tokenizer, [*asked.stops, *self.chat.stops], lead=lead),
            )
            for number in range(asked.choices)
        ]

    def _check_count(self, count: int) -> None:
        most = self.limits.rows + self.limits.waiting
        if count > most:
            raise LiquidError(f"the request asks for {count} completions: ask for at most {most}")

    async def base(self, name: str | None) -> Base | None:
        """The kept state of this name; None for none.

        Raises:
            LiquidError: there is no such state, or it is not of this model.
        """
        return None if name is None else (await asyncio.to_thread(self.states.get, name)).base

    async def _prompt(
        self, prompt: str | list[int], asked: CompletionRequest, base: Base | None
    ) -> tuple[HashedPrompt, str, TimedLines | None]:
        """The prompt's tokens, its text if it is sent too, and the printer of times for the completion."""
        if asked.timestamps:
            return await self.timed(prompt, asked.after, base)
        if isinstance(prompt, str):
            return await self.prompts.text(prompt, base), prompt, None
        read = await self.prompts.ids(prompt, base)
        return read, self.tokenizer.decode(prompt) if asked.echo else "", None

    async def timed(
        self, prompt: str | list[int], after: float | None, base: Base | None
    ) -> tuple[HashedPrompt, str, TimedLines | None]:
        """The same for a prompt with times.

        Raises:
            LiquidError: the model has none, the prompt is not a text, or its times do not fit.
        """
        if self.model.time_head is None:
            raise LiquidError(f"{self.name} was trained without times: remove timestamps")
        if not isinstance(prompt, str):
            raise LiquidError("a prompt with timestamps must be a string: send text instead of token ids")
        return await self.prompts.timed(prompt, after, base)

    def _job(self, prompt: HashedPrompt, asked: Asked, most: int, likeliest: int | None, number: int) -> Job:
        if most > self.limits.new_tokens:
            raise LiquidError(f"max_tokens must be at most {self.limits.new_tokens:,}, not {most:,}")
        how = asked.sampling
        if how.seed is not None:
            how = replace(how, seed=generator_seed(how.seed, number))
        largest = self.tokenizer.vocab_size - 1
        if how.logit_bias and (token := max(token for token, _ in how.logit_bias)) > largest:
            raise LiquidError(f"logit_bias: there is no token {token}: the largest id is {largest}")
        stop = [] if asked.ignore_eos else [self.tokenizer.eos_token_id]
        return Job(prompt, how, most, stop, likeliest, self.limits.seconds)

    # ---- updates become responses

    async def answer(
        self, asked: Asked, request: Request, shape: Shape, read: Awaitable[list[Choice]]
    ) -> Response:
        """The response, streamed if the request asks for it.

        Args:
            asked: the request.
            request: as it came.
            shape: of the response.
            read: the choices, once the prompts are tokenized.

        Raises:
            LiquidError: too many completions in one request.
            Busy: too many completions are waiting.
            Failed: the model failed.
        """
        choices = await unless_left(request, read)
        if choices is None:
            return _gone()
        request.scope[SHARE].release()
        request.scope[FACTS] = lambda: {"model": self.name} | counts(choices, asked.choices)
        headers = self.warnings.header(asked.ignored)
        deltas = self.writer.write(choices)
        if asked.stream:
            # The first delta comes before the stream begins, so that an error still has its status.
            first = await unless_left(request, anext(deltas))
            if first is None:
                return _gone()
            events = self._events(shape, asked, choices, first, deltas)
            return StreamingResponse(events, media_type="text/event-stream", headers=STREAM_HEADERS | headers)
        texts = await unless_left(request, _collected(deltas, len(choices)))
        if texts is None:
            return _gone()
        # In a thread: with the probabilities of long prompts it takes a while.
        return await asyncio.to_thread(
            lambda: JSONResponse(shape.complete(texts, usage(choices, asked.choices)), headers=headers)
        )

    async def _events(
        self,
        shape: Shape,
        asked: Asked,
        choices: list[Choice],
        first: tuple[int, TextDelta],
        deltas: AsyncGenerator[tuple[int, TextDelta], None],
    ) -> AsyncIterator[bytes]:
        """Server-sent events."""
        options = asked.stream_options or StreamOptions()

        def used(wanted: bool | None) -> dict[str, Any] | None:
            return usage(choices, asked.choices) if wanted else None

        try:
            for i in range(len(choices)):
                if (opening := shape.opening(i)) is not None:
                    yield _event(shape.chunk([opening]))
            begun = used(options.continuous_usage_stats)
            yield await asyncio.to_thread(lambda: _event(shape.chunk([shape.part(*first)], begun)))
            async for i, delta in deltas:
                yield _event(shape.chunk([shape.part(i, delta)], used(options.continuous_usage_stats)))
            if options.include_usage:
                yield _event(shape.chunk([], used(True)))
        except Failed as error:
            yield _event(error_body(500, f"the model failed: {error}"))
        except Busy as error:
            yield _event(error_body(error.status, str(error)))
        finally:
            await deltas.aclose()
        yield b"data: [DONE]\n\n"

    async def time_constants(self, text: str) -> TimeConstants:
        """Time constants after each token of a text.

        Raises:
            LiquidError: the text is too long.
            Busy: too many such requests are waiting.
        """
        ids = (await self.prompts.text(text)).ids
        if len(ids) > SEGMENT:
            raise LiquidError(f"the text has {len(ids) - 1:,} tokens: send at most {SEGMENT - 1:,}")
        if self._analysing >= MAX_TIME_CONSTANT_REQUESTS:
            raise Busy(f"{self._analysing} requests for time constants are waiting: try again later")
        self._analysing += 1
        try:
            async with self._one_analysis:
                return await in_thread(lambda gone: self._analyse(ids, gone))
        finally:
            self._analysing -= 1

    def _analyse(self, ids: np.ndarray, gone: threading.Event) -> TimeConstants:
        if gone.is_set():
            raise Left
        found = token_time_constants(self.model, torch.from_numpy(ids)[None].to(self.model.device))
        tokens = [self.tokenizer.token_bytes(i) for i in ids[1:]]
        return TimeConstants(
            tokens=[token.decode(errors="replace") for token in tokens],
            offsets=character_offsets(tokens),
            layers=[f"block {i}" for i in range(len(found))],
            time_constants=found[:, 1:].tolist(),
        )


def _event(body: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def _gone() -> Response:
    """A response that nobody reads: the client has gone."""
    return Response(status_code=499)


async def _collected(
    deltas: AsyncGenerator[tuple[int, TextDelta], None], count: int
) -> list[list[TextDelta]]:
    texts: list[list[TextDelta]] = [[] for _ in range(count)]
    async with aclosing(deltas):
        async for i, delta in deltas:
            texts[i].append(delta)
    return texts
