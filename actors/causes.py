"""The events that others answer: each must stand in the log before what answers it. Pure.

Whoever answers an event has read it in the log. If the log does not have it, it was lost,
whatever the chain of its sender says: that shows only once the sender says more.
"""

from collections.abc import Sequence
from typing import Final

from bus.event import Draft, StoredEvent, derive_id
from bus.payloads import ChainBroken
from bus.received import Received
from bus.subjects import SYSTEM_RUN

REMEMBERED: Final = 16_384
"""Ids of the last events: what is answered is seldom older."""
_ID_CHARS: Final = 64


class Causes:
    """Follows which events were there; they must come in the order of the log."""

    def __init__(self, *, remembered: int = REMEMBERED) -> None:
        self._remembered = remembered
        self._ids: dict[str, None] = {}

    def take(self, batch: Sequence[Received]) -> dict[str, list[StoredEvent]]:
        """Take the next events. What is refused cannot be answered.

        Returns:
            By cause, those whose cause is not among the last events before them: whether it
            is among the earlier ones, the audit log knows.
        """
        asked: dict[str, list[StoredEvent]] = {}
        for received in batch:
            if not isinstance(received, StoredEvent):
                continue
            cause = received.event.cause
            if cause and cause not in self._ids:
                asked.setdefault(cause, []).append(received)
            self._ids[received.event.id] = None
            if len(self._ids) > self._remembered:
                del self._ids[next(iter(self._ids))]
        return asked


def uncaused(received: StoredEvent) -> Draft:
    """The alarm: the event answers one that the log does not have; said again, it is the same."""
    event = received.event
    payload = ChainBroken(
        sender=event.source,
        key=event.key,
        expected_sequence=event.sequence,
        found_sequence=event.sequence,
        stream_sequence=received.stream_sequence,
        cause=(event.cause or "")[:_ID_CHARS],
    )
    event_id = derive_id("chain.broken", "cause", str(received.stream_sequence))
    return Draft(run=SYSTEM_RUN, payload=payload, id=event_id, cause=event.id)
