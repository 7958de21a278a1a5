"""Requests ▶ texts to write ▶ answers."""

import asyncio
import copy
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from contextlib import aclosing
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import torch
from fastapi import HTTPException, Request
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.responses import Response

from ..errors import LiquidError
from ..inference.inspection import token_time_constants
from ..inference.saving import mask_surplus
from ..inference.timed_text import TimedLines, timed_prompt
from ..model.language_model import LiquidTextGenerationModel
from ..model.segments import SEGMENT
from ..nn.state import LiquidCache
from ..text.tokenizer import LEDTokenizerWrapper
from .answers import error_body
from .engine import Busy
from .jobs import Job
from .limits import Limits
from .prefixes import Prompt
from .schema import Asked, ChatRequest, CompletionRequest, ModelCard, TimeConstants
from .shapes import Shape, usage
from .text import Piece, Text
from .writer import Choice, Failed, Writer

STREAM_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
LONG = 20_000
"""Texts of more characters are tokenized beside the event loop."""
CHAT_TOKENS = 1024
"""The most of an answer in a conversation, if nothing is said."""
LOOKERS = 16
"""Texts whose time constants are asked for at a time; one is looked at."""
Result = TypeVar("Result")


class Serving:
    """A model that is served.

    Attributes:
        writer: while the server runs.
        card: of the model.
    """

    writer: Writer

    def __init__(
        self, model: LiquidTextGenerationModel, tokenizer: LEDTokenizerWrapper, name: str, limits: Limits
    ):
        mask_surplus(model, tokenizer)
        self.model, self.tokenizer, self.name, self.limits = model, tokenizer, name, limits
        self._looking, self._lookers = asyncio.Semaphore(1), 0
        states = model.initial_states(1, torch.promote_types(model.dtype, torch.float32), model.device)
        self.card = ModelCard(
            id=name,
            created=int(time.time()),
            parameters=sum(p.numel() for p in model.parameters()),
            vocab_size=model.config.vocab_size,
            layers=len(states),
            state_bytes=LiquidCache.of_states(states, 0).nbytes,
            time_scale=model.config.time_scale,
            says_when=model.time_head is not None,
        )

    def check_model(self, name: str) -> None:
        if name != self.name:
            raise HTTPException(404, f"there is no model {name!r} here, only {self.name!r}")

    # ---- what is to be written

    async def completion_choices(self, asked: CompletionRequest) -> list[Choice]:
        """Of every prompt `n`."""
        if asked.echo and asked.logprobs is not None:
            raise LiquidError("echo with logprobs: the probabilities of a prompt's tokens are not given here")
        if asked.after is not None and not asked.timestamps:
            raise LiquidError("after goes with timestamps")
        given = asked.prompt if isinstance(asked.prompt, list) else [asked.prompt or ""]
        prompts: list[Any] = [given] if given and isinstance(given[0], int) else given
        choices = []
        for prompt in prompts:
            read, shown, lines = await self._prompt(prompt, asked)
            for number in range(asked.choices):
                text = Text(self.tokenizer, asked.stops, copy.copy(lines))
                job = self._job(read, asked, asked.max_tokens or 16, asked.logprobs, number)
                choices.append(Choice(job, text, shown if asked.echo else None))
        return choices

    async def chat_choices(self, asked: ChatRequest) -> list[Choice]:
        """`n` of the transcript of a conversation, each up to where the user would speak."""
        if asked.top_logprobs and not asked.logprobs:
            raise LiquidError("top_logprobs goes with logprobs")
        speakers = {"user": "User: ", "assistant": "Assistant: "}
        lines = [f"{speakers.get(message.role, '')}{message.text}" for message in asked.messages]
        prompt = Prompt(await self._encode("\n".join([*lines, "Assistant:"])))
        likeliest = (asked.top_logprobs or 0) if asked.logprobs else None
        most = asked.max_completion_tokens or asked.max_tokens or min(CHAT_TOKENS, self.limits.new_tokens)
        return [
            Choice(
                self._job(prompt, asked, most, likeliest, number),
                Text(self.tokenizer, [*asked.stops, "\nUser:"], lead=" "),
            )
            for number in range(asked.choices)
        ]

    async def _prompt(
        self, prompt: str | list[int], asked: CompletionRequest
    ) -> tuple[Prompt, str, TimedLines | None]:
        """What is read, how it is shown, and what goes on to print times before lines."""
        if asked.timestamps:
            if self.model.time_head is None:
                raise LiquidError(f"{self.name} knows no times: timestamps needs a model trained with them")
            if not isinstance(prompt, str):
                raise LiquidError("a prompt with timestamps must be text")
            timed = await asyncio.to_thread(timed_prompt, prompt, self.tokenizer, after=asked.after)
            self._check_length(timed.ids.shape[1])
            assert timed.times is not None
            return Prompt(timed.ids[0].numpy(), timed.times[0].numpy()), timed.shown, timed.lines
        if isinstance(prompt, str):
            return Prompt(await self._encode(prompt)), prompt, None
        ids = np.array([self.tokenizer.bos_token_id, *prompt], np.int64)
        if ids.max() >= self.model.config.vocab_size:
            raise LiquidError(
                f"prompt: there is no token {ids.max()}; ids end at {self.model.config.vocab_size - 1}"
            )
        self._check_length(len(ids))
        return Prompt(ids), self.tokenizer.decode(prompt), None

    async def _encode(self, text: str) -> np.ndarray:
        encode = self.tokenizer.encode
        ids = encode(text) if len(text) < LONG else await asyncio.to_thread(encode, text)
        self._check_length(len(ids) + 1)
        return np.concatenate([[self.tokenizer.bos_token_id], ids]).astype(np.int64)

    def _check_length(self, length: int) -> None:
        if length > self.limits.prompt_tokens:
            raise LiquidError(f"the prompt has {length:,} tokens; {self.limits.prompt_tokens:,} are the most")

    def _job(self, prompt: Prompt, asked: Asked, most: int, likeliest: int | None, number: int) -> Job:
        if most > self.limits.new_tokens:
            raise LiquidError(f"max_tokens must be at most {self.limits.new_tokens:,}, not {most:,}")
        how = asked.sampling
        if how.seed is not None:
            how = replace(how, seed=how.seed + number)
        stop = [self.tokenizer.eos_token_id]
        return Job(prompt, how, most, stop, likeliest, self.limits.seconds)

    # ---- and the answers

    async def answer(self, asked: Asked, request: Request, shape: Shape, choices: list[Choice]) -> Response:
        if len(choices) > self.limits.rows:
            raise LiquidError(f"{len(choices)} texts in one request; {self.limits.rows} are the most")
        pieces = self.writer.write(choices)
        if asked.stream:
            # What cannot be taken on is refused before the stream begins.
            first = await unless_left(request, anext(pieces))
            if first is None:
                return _gone()
            with_usage = asked.stream_options is not None and bool(asked.stream_options.include_usage)
            events = self._events(shape, choices, first, pieces, asked.choices if with_usage else None)
            return StreamingResponse(events, media_type="text/event-stream", headers=STREAM_HEADERS)
        texts = await unless_left(request, _collected(pieces, len(choices)))
        return _gone() if texts is None else JSONResponse(shape.whole(texts, usage(choices, asked.choices)))

    async def _events(
        self,
        shape: Shape,
        choices: list[Choice],
        first: tuple[int, Piece],
        pieces: AsyncGenerator[tuple[int, Piece], None],
        usage_per_prompt: int | None,
    ) -> AsyncIterator[bytes]:
        """Server-sent events."""
        try:
            for i in range(len(choices)):
                if (opening := shape.opening(i)) is not None:
                    yield _event(shape.chunk([opening]))
            yield _event(shape.chunk([shape.part(*first)]))
            async for i, piece in pieces:
                yield _event(shape.chunk([shape.part(i, piece)]))
            if usage_per_prompt is not None:
                yield _event(shape.chunk([], usage(choices, usage_per_prompt)))
        except Failed as error:
            yield _event(error_body(500, f"the model could not go on: {error}"))
        except Busy as error:
            yield _event(error_body(error.status, str(error)))
        finally:
            await pieces.aclose()
        yield b"data: [DONE]\n\n"

    async def time_constants(self, text: str) -> TimeConstants:
        ids = await self._encode(text)
        if len(ids) > SEGMENT:
            raise LiquidError(f"the text has {len(ids) - 1:,} tokens; {SEGMENT - 1:,} are the most here")
        if self._lookers >= LOOKERS:
            raise Busy(f"{self._lookers} texts are looked at already; try again later")
        self._lookers += 1
        try:
            return await self._look(ids)
        finally:
            self._lookers -= 1

    async def _look(self, ids: np.ndarray) -> TimeConstants:
        async with self._looking:
            found = await asyncio.to_thread(
                token_time_constants, self.model, torch.from_numpy(ids)[None].to(self.model.device)
            )
        return TimeConstants(
            tokens=[self.tokenizer.token_bytes(i).decode(errors="replace") for i in ids[1:]],
            layers=[f"block {i}" for i in range(len(found))],
            time_constants=found[:, 1:].tolist(),
        )


def _event(body: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def _gone() -> Response:
    """To nobody: the client has left."""
    return Response(status_code=499)


async def _collected(pieces: AsyncGenerator[tuple[int, Piece], None], count: int) -> list[list[Piece]]:
    texts: list[list[Piece]] = [[] for _ in range(count)]
    async with aclosing(pieces):
        async for i, piece in pieces:
            texts[i].append(piece)
    return texts


async def unless_left(request: Request, work: Awaitable[Result]) -> Result | None:
    """What `work` brings; None, and it is cancelled, if the client goes before."""

    async def left() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    async def done() -> Result:
        return await work

    working, leaving = asyncio.create_task(done()), asyncio.create_task(left())
    try:
        await asyncio.wait([working, leaving], return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)
