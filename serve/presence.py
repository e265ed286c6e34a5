"""Whether somebody works on a request that has said nothing yet.

A request that no replica has taken waits for one, and looks like one that takes long.
"""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

import structlog
from pydantic import JsonValue

from serve.completion import Task
from serve.errors import ModelBusy, ModelError, ModelUnavailable

log = structlog.get_logger()


class OwnEngine(Protocol):
    """The swarm's own engine, as serve/inference.py reaches it; it pickles."""

    async def connect(self) -> None:
        """Get ready."""
        ...

    async def models(self) -> dict[str, JsonValue]:
        """The OpenAI list of its models; ModelUnavailable where nobody is there."""
        ...

    def stream(
        self, request: dict[str, JsonValue], *, deadline_s: float, task: Task = "chat"
    ) -> AsyncGenerator[str, None]:
        """The documents of an answer; see ModelClient.stream for what it raises."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """How it is found out that nobody works on a request: the engine is asked for its models."""

    look_s: float = 2.0
    """Silence after which it is asked, and again each time."""
    patience_s: float = 5.0
    """In which it answers that, however busy it is."""


class Presence:
    """Whether somebody is there to work on requests, asked by all who wait at once."""

    def __init__(self, engine: OwnEngine, watch: Watch) -> None:
        self._engine = engine
        self._watch = watch
        self._lock = asyncio.Lock()
        self._looked_at: float | None = None
        self._is_there = True

    async def first_of(self, documents: AsyncGenerator[str, None]) -> str:
        """The first document of an answer, however long it takes, as long as somebody is there.

        Raises:
            ModelUnavailable: nobody is, or the answer has none.
        """
        pending = asyncio.ensure_future(anext(documents, None))
        try:
            while not pending.done():
                await asyncio.wait({pending}, timeout=self._watch.look_s)
                if not pending.done() and not await self._look():
                    raise ModelUnavailable("no replica of the engine is there")
            first = pending.result()
        finally:
            if not pending.done():
                pending.cancel()
                await asyncio.wait({pending})
        if first is None:
            raise ModelUnavailable("the engine answered nothing", was_asked=True)
        return first

    async def _look(self) -> bool:
        loop = asyncio.get_running_loop()
        async with self._lock:
            if self._looked_at is None or loop.time() - self._looked_at >= self._watch.look_s:
                self._is_there = await self._answers()
                self._looked_at = loop.time()
            return self._is_there

    async def _answers(self) -> bool:
        try:
            async with asyncio.timeout(self._watch.patience_s):
                await self._engine.models()
        except ModelBusy:
            return True
        except (ModelError, TimeoutError) as error:
            log.info("model.not_there", error=type(error).__name__)
            return False
        return True
