"""A queue of events that is bounded by their size as well: one may hold 16 MiB."""

import asyncio
from typing import Final

from bus.received import Received, RefusedEvent

LIMIT_BYTES: Final = 32 * 1024 * 1024


class Intake(asyncio.Queue[Received]):
    """Takes no more events once it holds so many, or so many bytes of them.

    An event is taken whole: what it holds may exceed the bound by one.
    """

    def __init__(self, limit: int, limit_bytes: int = LIMIT_BYTES) -> None:
        super().__init__(limit)
        self._limit_bytes = limit_bytes
        self._held_bytes = 0

    def full(self) -> bool:
        """Whether whoever has more to put must wait."""
        return super().full() or self._held_bytes >= self._limit_bytes

    def _put(self, item: Received) -> None:
        self._held_bytes += _size(item)
        super()._put(item)

    def _get(self) -> Received:
        item: Received = super()._get()
        self._held_bytes -= _size(item)
        return item


def _size(received: Received) -> int:
    if isinstance(received, RefusedEvent):
        return len(received.data)
    return len(received.event.stored_body)
