"""Keeping a trust store abreast of the log.

An event may be acted on only once every change of trust that was stored before it is known.
Who follows a part of the log is given them beside it, in the order of the log, and who reads
the whole of it meets them anyway. Everybody else asks the stream: one question, for the next
event of the trust run, covers all that had been received when it was asked.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import structlog

from bus.connection import Connection
from bus.errors import IdentityError, MalformedEvent
from bus.event import StoredEvent
from bus.received import Received, fetched
from bus.ring import is_endorsed
from bus.subjects import TRUST_RUN, collide, group_filter, run_filter, subject_for
from bus.trust import TrustStore
from bus.trust_payloads import RootRotated

log = structlog.get_logger()

_CHANGES: Final = run_filter(TRUST_RUN)
_GROUPS: Final = tuple(
    group_filter(TRUST_RUN, group) for group in ("authority", "identity", "policy", "root")
)
_ROOTS: Final = subject_for(TRUST_RUN, RootRotated.TYPE)

Judge = Callable[[Received], Awaitable[Received]]
"""Says whether a change of trust may be acted on, once those before it are known."""


def changes_beside(subject_filter: str) -> tuple[str, ...]:
    """Filters of the changes of trust, for who reads what another filter matches.

    None where it may match such a change itself: the broker refuses filters that overlap.
    """
    return () if any(collide(subject_filter, group) for group in _GROUPS) else _GROUPS


def is_change(subject: str) -> bool:
    """Whether what stands on a subject belongs to the changes of trust."""
    return any(subject.startswith(group[:-1]) for group in _GROUPS)


class TrustLog:
    """What a reader knows of the changes of trust, and up to which place."""

    def __init__(self, connection: Connection, trust: TrustStore, judge: Judge) -> None:
        self._connection = connection
        self._trust = trust
        self._judge = judge
        self._asking = asyncio.Lock()
        self._known = 1
        self._last = 0
        self._connects = connection.connects
        self._roots = [trust.roots[-1]]
        self._last_root = 0

    async def know(self, place: int) -> None:
        """Return once every change that was stored before a place is known.

        Args:
            place: of an event that was received, or the one after it.

        Raises:
            BusUnreachable: the stream did not answer.
        """
        self._doubt()
        if place <= self._known:
            return
        async with self._asking:
            # What has been received was stored before the question that follows now.
            covered = max(place, self._connection.received)
            while place > self._known:
                # The stream looks through all that lies between the place and the answer.
                after = max(self._last, self._known - 1)
                message = await self._connection.next_message(_CHANGES, after=after)
                if self._doubt():
                    continue
                if message is None:
                    self._known = max(self._known, covered)
                    return
                change = fetched(message)
                self._learn(await self._judge(change))
                self._known = max(self._known, change.stream_sequence + 1)

    def _doubt(self) -> bool:
        """Whether the broker may have come back with an older log.

        Then what followed the last change there has to be asked for once more.
        """
        if self._connects == self._connection.connects:
            return False
        self._connects = self._connection.connects
        self._known = min(self._known, self._last + 1)
        return True

    async def roots(self) -> tuple[str, ...]:
        """The roots that follow each other by their endorsements alone, also later ones.

        Raises:
            BusUnreachable: the stream did not answer.
        """
        while message := await self._connection.next_message(_ROOTS, after=self._last_root):
            there = fetched(message)
            self._last_root = there.stream_sequence
            with suppress(MalformedEvent):
                payload = there.payload() if isinstance(there, StoredEvent) else None
                if isinstance(payload, RootRotated) and is_endorsed(payload, self._roots[-1]):
                    self._roots.append(payload.operator)
        return tuple(self._roots)

    def knows(self, place: int) -> bool:
        """Whether a change that stands at a place is known."""
        return place < self._known

    def passed(self, received: Received) -> None:
        """Take what comes next to a reader who is given every change, judged in its place."""
        place = received.stream_sequence
        if isinstance(received, StoredEvent) and received.event.run == TRUST_RUN:
            self._learn(received)
        self._known = max(self._known, place + 1)

    def _learn(self, received: Received) -> None:
        place = received.stream_sequence
        if place <= self._last:
            return
        self._last = place
        if not isinstance(received, StoredEvent):
            log.warning("bus.trust_change_refused", stream_sequence=place, code=received.error.code)
            return
        try:
            self._trust.learn(received.payload(), place)
        except (IdentityError, MalformedEvent) as error:
            log.error("bus.trust_change_unusable", stream_sequence=place, reason=str(error))
