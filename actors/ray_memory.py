"""The memory of a Ray cluster, by the name of its actor, without what that one imports."""

import asyncio
from collections.abc import Awaitable
from typing import Any, Final, TypeVar

import ray
import structlog
from ray.actor import ActorHandle
from ray.exceptions import RayActorError, RayTaskError

from actors.errors import MemoryUnavailable
from actors.memory_question import Findings, SignedQuestion
from actors.shell import NAMESPACE
from bus.errors import SwarmError
from storage.memory_item import Outcome

log = structlog.get_logger()

MEMORY: Final = "memory"
"""The actor's name, and its role."""
GRACE_S: Final = 1.0
"""How much longer an answer may travel than it may take."""

T = TypeVar("T")


class RayMemory:
    """The memory of this Ray cluster, by the name of its actor; implements MemoryService.

    It pickles, and costs nothing until it is used.
    """

    def __init__(self) -> None:
        self._actor: ActorHandle[Any] | None = None

    def __reduce__(self) -> tuple[object, ...]:
        # A handle belongs to the process that found it.
        return (RayMemory, ())

    async def answer(self, question: SignedQuestion, *, deadline_s: float) -> Findings:
        """See `MemoryService.answer`."""
        actor = await self._found()
        findings: Findings = await self._in_time(actor.answer.remote(question), deadline_s)
        return findings

    async def settled(self, event: str, place: int, *, deadline_s: float) -> Outcome:
        """See `MemoryService.settled`."""
        actor = await self._found()
        outcome: Outcome = await self._in_time(
            actor.settled.remote(event, place, deadline_s), deadline_s + GRACE_S
        )
        return outcome

    async def is_following(self, *, deadline_s: float) -> bool:
        """Whether what is written takes effect.

        Raises:
            MemoryUnavailable: nobody answers in time.
        """
        actor = await self._found()
        return bool(await self._in_time(actor.is_following.remote(), deadline_s))

    async def is_indexing(self, *, deadline_s: float) -> bool:
        """Whether the vector index and the sessions follow the memory.

        Raises:
            MemoryUnavailable: nobody answers in time.
        """
        actor = await self._found()
        return bool(await self._in_time(actor.is_indexing.remote(), deadline_s))

    async def reindex(self, *, deadline_s: float) -> int:
        """Make the vector index and the sessions anew; of how many items.

        Raises:
            MemoryUnavailable: nobody answers in time.
        """
        actor = await self._found()
        count: int = await self._in_time(actor.reindex.remote(), deadline_s)
        return count

    async def rebuild(self, *, deadline_s: float) -> None:
        """Make all of it anew from the audit log.

        Raises:
            MemoryUnavailable: nobody answers in time.
        """
        actor = await self._found()
        await self._in_time(actor.rebuild.remote(), deadline_s)

    async def _found(self) -> ActorHandle[Any]:
        if self._actor is not None:
            return self._actor
        try:
            actor: ActorHandle[Any] = await asyncio.to_thread(
                ray.get_actor, MEMORY, namespace=NAMESPACE
            )
        except ValueError as error:
            raise MemoryUnavailable("nobody keeps a memory in this cluster") from error
        self._actor = actor
        return actor

    async def _in_time(self, answer: Awaitable[T], deadline_s: float) -> T:
        try:
            async with asyncio.timeout(deadline_s):
                return await answer
        except TimeoutError as error:
            message = f"the memory did not answer within {deadline_s:g} s"
            raise MemoryUnavailable(message) from error
        except RayActorError as error:
            self._actor = None
            raise MemoryUnavailable("the memory is being started again") from error
        except RayTaskError as error:  # what the actor raised, with its traceback for a message
            if isinstance(error.cause, SwarmError):
                raise error.cause from error
            fault = type(error.cause).__name__
            log.error("memory.failed", error=fault, exc_info=error)
            message = f"the memory failed with {fault}; its traceback is in the log"
            raise MemoryUnavailable(message) from error
