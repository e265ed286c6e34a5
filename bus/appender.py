"""Appending to the log: one event in flight, the same bytes until the outcome is known."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import structlog

from bus.connection import Connection, PublishAck, StreamRefusal
from bus.errors import (
    BusUnreachable,
    LogFull,
    PublishConflict,
    PublishError,
    PublishUnconfirmed,
)
from bus.event import Draft, Event, StoredEvent
from bus.received import RefusedEvent, fetched
from bus.signing import Sender, SubjectPolicy
from bus.subjects import parse
from bus.verifier import Verifier

log = structlog.get_logger()

RETRY_S: Final = 0.1
ATTEMPT_TIMEOUT_S: Final = 2.0
_WRONG_LAST_SEQUENCE: Final = frozenset({10071, 10164})


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """Store only if the last event matching the filter still is this one (0: none yet)."""

    subject_filter: str
    stream_sequence: int


class Appender:
    """Signs and stores what one sender says, in order."""

    def __init__(
        self,
        connection: Connection,
        verifier: Verifier,
        policy: SubjectPolicy,
        sender: Sender,
        *,
        deadline_s: float,
    ) -> None:
        self._connection = connection
        self._verifier = verifier
        self._policy = policy
        self._sender = sender
        self._deadline_s = deadline_s
        self._order = asyncio.Lock()
        self._unresolved: Event | None = None
        self._expectation: Mapping[str, str] = {}
        self._position = 0

    async def append(self, draft: Draft, *, expected: Expected | None = None) -> StoredEvent:
        """Sign an event and store it durably; it is in the log when this returns.

        The same bytes are sent again until the outcome is known. An id that is already in
        the log is not stored twice: what stands there is returned.

        Raises:
            PublishDenied: the policy or the broker refuses.
            PublishConflict: `expected` no longer holds; nothing was stored.
            PublishUnconfirmed: the outcome is still unknown after `deadline_s`. The next
                append finds it out first: the event is stored then, unless it already is
                or `expected` no longer holds.
            PayloadTooLarge: over 16 MiB.
            LogFull: there is no room; nothing was stored.
        """
        async with self._order:
            if self._unresolved is not None:
                await self._resolve(self._unresolved)
            event = self._sender.sign(draft)
            return await self._store(event, _expectation(expected))

    async def _resolve(self, event: Event) -> None:
        """Find out what became of an event whose caller was told that nobody knows.

        The log is asked first: the stream forgets ids after a while.
        """
        try:
            if await self._found(event) is None:
                await self._store(event, self._expectation)
        except BusUnreachable as error:
            raise PublishUnconfirmed(f"the outcome of {event.id} is still unknown") from error
        except PublishUnconfirmed:
            raise
        except PublishError as error:
            log.warning("bus.append_given_up", id=event.id, code=error.code, reason=str(error))

    async def _found(self, event: Event) -> StoredEvent | None:
        """Look for these very bytes where they would be; if they are there, they are settled."""
        position = self._position
        while message := await self._connection.next_message(event.subject, after=position):
            there = fetched(message)
            position = there.stream_sequence
            if isinstance(there, StoredEvent) and there.event == event:
                return self._advanced(event, position)
        return None

    def _advanced(self, event: Event, sequence: int) -> StoredEvent:
        self._sender.advance(event)
        self._position, self._unresolved = sequence, None
        stored = StoredEvent(event=event, stream_sequence=sequence, stored_at=event.time)
        self._verifier.said(stored)
        return stored

    async def _store(self, event: Event, expectation: Mapping[str, str]) -> StoredEvent:
        self._unresolved, self._expectation = event, expectation
        headers = {**event.headers, **expectation, "Nats-Msg-Id": event.id}
        deadline = asyncio.get_running_loop().time() + self._deadline_s
        while True:
            try:
                ack = await self._publish(event, headers)
                stored = await self._settle(event, ack)
            except (PublishUnconfirmed, BusUnreachable) as error:
                if asyncio.get_running_loop().time() > deadline:
                    raise PublishUnconfirmed(str(error)) from error
                await asyncio.sleep(RETRY_S)
            except PublishError:
                self._unresolved = None
                raise
            else:
                if stored is not None:
                    self._unresolved = None
                    return stored
                log.warning("bus.id_taken", id=event.id, by_stream_sequence=ack.sequence)
                headers["Nats-Msg-Id"] = event.digest.hex()

    async def _publish(self, event: Event, headers: Mapping[str, str]) -> PublishAck:
        try:
            return await self._connection.publish(
                event.subject, event.data, headers, timeout_s=ATTEMPT_TIMEOUT_S
            )
        except StreamRefusal as refusal:
            # The stream compares sequences before ids: what refuses this may be our own
            # event, stored by an earlier try whose confirmation was lost.
            there = await self._found(event)
            if there is None:
                raise _translated(refusal, event) from refusal
            return PublishAck(sequence=there.stream_sequence, duplicate=False)

    async def _settle(self, event: Event, ack: PublishAck) -> StoredEvent | None:
        """Move the chain on if what is stored is ours.

        A duplicate may be somebody else's. It counts as the same thing said only where it
        verifies and its sender may say what we say; None where a message merely took our id.
        """
        if ack.duplicate:
            message = await self._connection.message_at(ack.sequence)
            there = None if message is None else fetched(message)
            if not isinstance(there, StoredEvent):
                return None
            if there.event != event:
                return await self._same_thing(there, event)
        return self._advanced(event, ack.sequence)

    async def _same_thing(self, there: StoredEvent, event: Event) -> StoredEvent | None:
        verified = await self._verifier.check(there)
        if isinstance(verified, RefusedEvent):
            return None
        said = verified.event
        could_be_ours = self._policy.refusal(said.role, parse(event.subject)) is None
        return verified if could_be_ours and (said.id, said.run) == (event.id, event.run) else None


def _expectation(expected: Expected | None) -> dict[str, str]:
    if expected is None:
        return {}
    return {
        "Nats-Expected-Last-Subject-Sequence": str(expected.stream_sequence),
        "Nats-Expected-Last-Subject-Sequence-Subject": expected.subject_filter,
    }


def _translated(refusal: StreamRefusal, event: Event) -> PublishError:
    if refusal.code in _WRONG_LAST_SEQUENCE:
        return PublishConflict(f"{event.type} of run {event.run}: {refusal.description}")
    if refusal.is_full:
        return LogFull(f"no room for {event.type} of run {event.run}: {refusal}")
    return PublishError(f"the stream refused {event.type}: {refusal.description} ({refusal.code})")
