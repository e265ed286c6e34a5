"""Stopping work that nobody waits for any more: a run that ended while an agent worked on it."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Final, TypeVar

import structlog

from bus.errors import BusUnreachable
from bus.event import StoredEvent
from bus.log import EventLog
from bus.payloads import RunCancelled, RunCompleted, RunFailed
from bus.subjects import run_filter

log = structlog.get_logger()

T = TypeVar("T")

LOOK_EVERY_S: Final = 0.3
"""A model call stops within a second of the end of its run, an answer of the broker included."""
_PATIENCE: Final = 10
_ENDS: Final = frozenset({RunCancelled.TYPE, RunCompleted.TYPE, RunFailed.TYPE})


class RunEnded(Exception):
    """The run ended before the work on it did."""


class RunWatch:
    """Looks in the log whether a run ended after a place in it."""

    def __init__(self, event_log: EventLog, run: str, *, after: int) -> None:
        self._log = event_log
        self._filter = f"{run_filter(run)[:-1]}run.*"
        self._position = after

    async def has_ended(self) -> bool:
        """Whether there is a verified event that ends the run.

        Nobody but the coordinator may say so; what somebody else says is passed over. A
        broker that does not answer ends no run. A failed run that is retried assigns its
        steps anew: what was assigned before is over all the same.
        """
        try:
            while found := await self._log.next_on(self._filter, after=self._position):
                self._position = found.stream_sequence
                if isinstance(found, StoredEvent) and found.event.type in _ENDS:
                    return True
        except BusUnreachable as error:
            log.info("run_watch.interrupted", reason=str(error))
        return False


async def unless_ended(
    work: Coroutine[None, None, T],
    has_ended: Callable[[], Awaitable[bool]],
    *,
    every_s: float = LOOK_EVERY_S,
) -> T:
    """Do the work, and look now and then whether it still matters.

    Work that is done at once is not looked after. When this returns or raises, the work
    has come to its end, if it lets itself be cancelled.

    Args:
        work: is cancelled when it matters no more.
        has_ended: looks.
        every_s: seconds between looks.

    Raises:
        RunEnded: it was cancelled because it does not matter any more.
    """
    task = asyncio.ensure_future(work)
    try:
        while not (await asyncio.wait((task,), timeout=every_s))[0]:
            if await has_ended():
                raise RunEnded
        return await task
    finally:
        if not task.done():
            await _end(task)


async def _end(task: asyncio.Future[T]) -> None:
    """Cancel a task until it ends; one that will not is left alone, and that is said."""
    for _ in range(_PATIENCE):
        task.cancel()
        if (await asyncio.wait((task,), timeout=LOOK_EVERY_S))[0]:
            if not task.cancelled():
                task.exception()  # was looked at: it does not matter any more
            return
    log.error("run_watch.work_goes_on", reason="it does not let itself be cancelled")
