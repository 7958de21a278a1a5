"""The models of a server, by name. A model can be replaced while its texts are being written."""

import asyncio
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from fastapi import HTTPException

from .limits import Limits
from .metrics import Metrics
from .parsing import quoted
from .serving import Serving


class Models:
    """The models of a server. Where a request names none, the first one is meant.

    Args:
        servings: at least one, with different names.
        limits: of the server.

    Attributes:
        metrics: what the models do, and the server.
    """

    def __init__(self, servings: Sequence[Serving], limits: Limits):
        self.limits, self.metrics = limits, Metrics(self._loads)
        self._of_name = {serving.name: serving for serving in servings}
        self._replaced: list[Serving] = []

    def __iter__(self) -> Iterator[Serving]:
        return iter([*self._of_name.values()])

    def of(self, name: str | None) -> Serving:
        """The model of this name.

        Raises:
            HTTPException: status 404, there is no such model.
        """
        if name is None:
            return next(iter(self))
        if (found := self._of_name.get(name)) is None:
            names = ", ".join(map(repr, self._of_name))
            raise HTTPException(404, f"there is no model {quoted(name)} here: this server has {names}")
        return found

    @contextmanager
    def using(self, name: str | None) -> Iterator[Serving]:
        """The same, for a request that gives it work: it takes work until the end, even if it is replaced."""
        serving = self.of(name)
        serving.users += 1
        try:
            yield serving
        finally:
            serving.users -= 1
            self._end_unused()

    def replace(self, new: Serving) -> None:
        """Put a model in the place of the one of its name, which ends its texts first."""
        new.start(self.metrics.of_model(new.name))
        old, self._of_name[new.name] = self._of_name[new.name], new
        self._replaced.append(old)
        self._end_unused()

    def _end_unused(self) -> None:
        for old in [old for old in self._replaced if not old.users]:
            old.writer.engine.stop(math.inf)  # what was given to it is written to its end
        self._replaced = [old for old in self._replaced if old.users or old.writer.engine.working]

    def _loads(self) -> dict[str, dict[str, int]]:
        return {serving.name: serving.load() for serving in self}

    def load(self) -> dict[str, int]:
        """`Engine.load` of all of them together."""
        loads = [serving.writer.engine.load() for serving in (*self, *self._replaced)]
        return {key: sum(load[key] for load in loads) for key in loads[0]}

    def start(self) -> None:
        """Start all of them, in the event loop that calls them."""
        for serving in self:
            serving.start(self.metrics.of_model(serving.name))

    def stop(self, seconds: float) -> None:
        """Take no more work, and end what is running after `seconds`."""
        for serving in (*self, *self._replaced):
            serving.writer.engine.stop(seconds)

    async def close(self) -> None:
        """Stop now, and wait for the end."""
        for serving in (*self, *self._replaced):
            await asyncio.to_thread(serving.writer.engine.close)
