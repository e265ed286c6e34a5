"""Telling the log what was done with accounts, in the background.

It was noted in Postgres by the statement that did it, so it is durable before it is answered;
the log has it a moment later, or once the broker is back.
"""

import asyncio
from contextlib import suppress
from typing import Final

import structlog

from bus.errors import SwarmError
from serve.attempts import Appender
from serve.people_ports import Outbox

log = structlog.get_logger()

PAUSE_S: Final = 1.0
"""Between two tries while the broker or the database is away."""
GATHER_S: Final = 0.05
"""From the first thing noted to its passing on: one transaction for all that comes meanwhile."""
LOOK_EVERY_S: Final = 30.0
"""For what a gateway has left that was killed."""
FLUSH_S: Final = 5.0
"""At the end; what is left then is passed on by the next gateway."""


class PeopleEvents:
    """Passes on what the stores of people noted.

    Args:
        outbox: where they noted it.
        events: the log.
        pause_s: between two tries.
    """

    def __init__(self, outbox: Outbox, events: Appender, *, pause_s: float = PAUSE_S) -> None:
        self._outbox = outbox
        self._events = events
        self._pause_s = pause_s
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Something was noted."""
        self._woken.set()

    async def pass_on(self) -> None:
        """Tell the log all that is noted now.

        Raises:
            SwarmError: the log or the database is away; nothing is lost.
        """
        await self._outbox.pass_on(self._events.append)

    async def keep_passing_on(self) -> None:
        """Pass on whatever is noted, until cancelled."""
        own = asyncio.current_task()
        while True:
            self._woken.clear()
            is_done = await self._passed_on()
            # asyncio.wait_for, which nats-py waits by, loses a cancellation that meets the answer.
            if own is None or own.cancelling():
                return
            if not is_done:
                await asyncio.sleep(self._pause_s)
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._woken.wait()
                    await asyncio.sleep(GATHER_S)

    async def _passed_on(self) -> bool:
        try:
            await self.pass_on()
        except SwarmError as error:
            log.warning("people_events.kept", code=error.code)
            return False
        return True

    async def flush(self) -> None:
        """Pass on what can be passed on in a few seconds."""
        try:
            async with asyncio.timeout(FLUSH_S):
                await self.pass_on()
        except (SwarmError, TimeoutError) as error:
            log.warning("people_events.left", error=type(error).__name__)
