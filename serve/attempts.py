"""Attempts of people as events: each that was looked at, and a count of those that were not.

An attempt that a rate limit refused costs its maker nothing, so it must not cost the log an
event: of those there is one event a minute for each limit, with their number.
"""

import asyncio
import hashlib
import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol
from uuid import uuid4

import structlog

from bus.errors import SwarmError
from bus.event import Draft, StoredEvent
from bus.log import Expected
from bus.payload import Payload
from bus.people import AttemptsLimited
from storage.people_event import people_event

log = structlog.get_logger()

WINDOW_S: Final = 60.0


class Appender(Protocol):
    """Where events are stored."""

    async def append(self, draft: Draft, *, expected: Expected | None = None) -> StoredEvent:
        """Store an event."""
        ...


@dataclass(slots=True)
class _Window:
    """The time since the last event about a limit, and what was refused in it."""

    began_at: float
    pending: int = 0
    origin: str = ""


class Attempts:
    """Records attempts in the log.

    Args:
        events: the log.
        key: of the hashes that stand for names and addresses.
        monotonic: seconds that only grow.
    """

    def __init__(
        self, events: Appender, key: bytes, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._events = events
        self._key = key
        self._monotonic = monotonic
        self._windows: dict[str, _Window] = {}

    def hash(self, text: str) -> str:
        """What stands for a name or an address; only who has the key can try out which."""
        digest = hmac.digest(self._key, text.encode("utf-8", "surrogatepass"), hashlib.sha256)
        return digest.hex()[:32]

    async def record(self, payload: Payload, *, user: str | None = None, once: str = "") -> None:
        """Store an event about people; when this returns it is durable.

        Args:
            payload: what happened.
            user: on whose behalf, by id.
            once: what makes a repeat the same event; without it each is another.

        Raises:
            BusError: it was not stored; what it tells of must not be answered as done.
        """
        await self._events.append(people_event(payload, user=user, once=once or uuid4().hex))

    async def limited(self, limit: str, address: str) -> None:
        """Count an attempt that was refused unseen; the first of a minute is told at once."""
        window = self._windows.get(limit)
        if window is None:
            window = self._windows[limit] = _Window(began_at=self._monotonic() - WINDOW_S)
        window.pending += 1
        window.origin = self.hash(address)
        await self._tell_if_due(limit, window)

    async def flush(self) -> None:
        """Tell of what was counted in windows that are over."""
        for limit, window in list(self._windows.items()):
            await self._tell_if_due(limit, window)

    async def keep_flushing(self) -> None:
        """Flush once a window, endlessly."""
        while True:
            await asyncio.sleep(WINDOW_S)
            await self.flush()

    async def _tell_if_due(self, limit: str, window: _Window) -> None:
        now = self._monotonic()
        if not window.pending or now - window.began_at < WINDOW_S:
            return
        count, window.pending, window.began_at = window.pending, 0, now
        payload = AttemptsLimited(limit=limit, count=count, origin=window.origin)
        try:
            await self.record(payload)
        except SwarmError as error:
            window.pending += count  # told with the next ones
            log.warning("attempts.not_recorded", code=error.code)
