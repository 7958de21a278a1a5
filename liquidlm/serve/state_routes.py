"""The paths of kept states: keep, list, fork, delete."""

import asyncio
import time
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request
from starlette.responses import JSONResponse, Response

from ..inference.sampling import Sampling
from .bodies import SHARE
from .jobs import Job
from .models import Models
from .named_states import NamedState, facts_of, renamed
from .parsing import body_description, parsed
from .prefixes import Base, HashedPrompt
from .schema import StateName
from .serving import Serving
from .state_schema import StateCard, StateDeleted, StateList, StateRequest
from .threads import in_thread, unless_left


def add_state_routes(app: FastAPI, models: Models, guarded: dict[str, Any]) -> None:
    """Routes of states; `guarded` are the options of routes that need the API key."""
    values = models.limits.values

    @app.post(
        "/liquid/states",
        response_model=StateCard,
        status_code=201,
        openapi_extra=body_description(StateRequest),
        **guarded,
    )
    async def keep(
        asked: Annotated[StateRequest, Depends(parsed(StateRequest, values))], request: Request
    ) -> Response:
        """Keep the state after a prompt or a conversation, or a copy of another state."""
        with models.using(asked.model) as serving:
            state = await unless_left(request, _new_state(serving, asked, request))
            if state is None:
                return Response(status_code=499)
            await asyncio.to_thread(serving.states.add, state, asked.replace)
        return JSONResponse(StateCard.of(facts_of(state)).model_dump(), 201)

    @app.get("/liquid/states", response_model=StateList, **guarded)
    async def listed(model: str | None = None) -> StateList:
        """The kept states of a model."""
        store = models.of(model).states
        found = [StateCard.of(facts) for facts in await asyncio.to_thread(store.facts)]
        return StateList(data=found, most_states=store.most, most_bytes=store.most_bytes)

    @app.get("/liquid/states/{name}", response_model=StateCard, **guarded)
    async def one(name: StateName, model: str | None = None) -> StateCard:
        """A kept state of a model."""
        return StateCard.of(facts_of(await asyncio.to_thread(models.of(model).states.get, name)))

    @app.delete("/liquid/states/{name}", response_model=StateDeleted, **guarded)
    async def delete(name: StateName, model: str | None = None) -> StateDeleted:
        """Delete a kept state of a model."""
        await asyncio.to_thread(models.of(model).states.remove, name)
        return StateDeleted(name=name)


async def _new_state(serving: Serving, asked: StateRequest, request: Request) -> NamedState:
    """The state that a request asks for, read if it is not a copy."""
    before = None if asked.state is None else await asyncio.to_thread(serving.states.get, asked.state)
    if before is not None and not asked.prompt and asked.messages is None:
        return renamed(before, asked.name)
    prompt = await _prompt(serving, asked, None if before is None else before.base)
    asked.prompt, asked.messages = None, None
    request.scope[SHARE].release()
    job = Job(prompt, Sampling(), 1, seconds=serving.limits.seconds, reads_only=True)
    snapshot = await serving.writer.read(job)
    base = Base(snapshot._replace(length=prompt.length), prompt.identity, prompt.tail)
    return NamedState(asked.name, base, int(time.time()))


async def _prompt(serving: Serving, asked: StateRequest, base: Base | None) -> HashedPrompt:
    if asked.messages is not None:
        messages = asked.messages
        text = await in_thread(lambda _: serving.chat.turns(messages))
        return await serving.prompts.text(text if base is None else f"{serving.chat.between}{text}", base)
    if asked.timestamps:
        return (await serving.timed(asked.prompt or "", None, base))[0]
    if isinstance(asked.prompt, list):
        return await serving.prompts.ids(asked.prompt, base)
    return await serving.prompts.text(asked.prompt or "", base)
