"""Work off the event loop, and work for clients that may leave."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import TypeVar

from fastapi import Request

Result = TypeVar("Result")


class Left(Exception):
    """The client has gone: its work is not needed."""


async def in_thread(work: Callable[[threading.Event], Result]) -> Result:
    """The result of `work` in a thread.

    If the caller is cancelled, the event that `work` got is set, and the thread comes to its end before the
    caller goes on: what it holds is not given to others before.
    """
    gone = threading.Event()
    task = asyncio.ensure_future(asyncio.to_thread(work, gone))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        gone.set()
        await asyncio.wait([task])
        task.exception() if not task.cancelled() else None  # nobody asks for it
        raise


async def unless_left(request: Request, work: Awaitable[Result]) -> Result | None:
    """The result of `work`. If the client goes first, `work` is cancelled, and the result is None."""

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
