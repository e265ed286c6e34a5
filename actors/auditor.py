"""The auditor: reads the whole log in order, verifies it, and writes the audit log.

Its place is the one that Postgres committed last. A crash anywhere repeats a batch,
which the audit log recognises. While Postgres is down it waits; nothing is skipped.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Final, Protocol

import structlog

from bus.errors import SequenceError, SwarmError
from bus.event import Draft, StoredEvent, derive_id
from bus.log import EventLog
from bus.payloads import ChainBroken
from bus.received import Received, RefusedEvent
from bus.subjects import ALL_EVENTS, SYSTEM_RUN
from bus.trust import ChainTracker
from storage.audit import LogState
from storage.audit_rows import Position
from storage.leaf import AuditRecord

log = structlog.get_logger()

BATCH: Final = 256
BUFFERED_EVENTS: Final = 1_024
RETRY_S: Final = 0.5

Sign = Callable[[int, bytes], str]


class AuditLog(Protocol):
    """Where records go: all of a batch or nothing, a repeated batch does no harm."""

    async def position(self) -> Position:
        """How far the audit log has come."""
        ...

    async def append(self, batch: Sequence[AuditRecord], sign: Sign) -> LogState:
        """Store a batch and sign the new checkpoint."""
        ...


class Auditor:
    """One reader of everything."""

    def __init__(
        self, event_log: EventLog, audit_log: AuditLog, sign: Sign, chains: ChainTracker
    ) -> None:
        self._log = event_log
        self._audit = audit_log
        self._sign = sign
        self._chains = chains

    async def run(self) -> None:
        """Audit until cancelled."""
        position = await self._audit.position()
        buffer: asyncio.Queue[Received] = asyncio.Queue(BUFFERED_EVENTS)
        async with asyncio.TaskGroup() as tasks:
            events = self._log.follow(ALL_EVENTS, after=position.stream_sequence)
            tasks.create_task(_fill(buffer, events))
            while True:
                batch = await _next_batch(buffer)
                await self._alarm(batch)
                await self._store([record_of(received) for received in batch])

    async def _alarm(self, batch: Sequence[Received]) -> None:
        """Say what is wrong before the batch is committed: after a crash it is said again."""
        for received in batch:
            if isinstance(received, RefusedEvent):
                await self._log.record_refusal(received)
                continue
            expected = self._chains.expected(received.event.key)
            try:
                self._chains.follow(received.event)
            except SequenceError as error:
                log.error("audit.chain_broken", reason=str(error))
                await self._log.append(_broken(received, expected))

    async def _store(self, records: Sequence[AuditRecord]) -> None:
        while True:
            try:
                state = await self._audit.append(records, self._sign)
            except SwarmError as error:
                if not error.retryable:
                    raise
                log.warning("audit.waits", reason=str(error))
                await asyncio.sleep(RETRY_S)
            else:
                log.debug("audit.stored", size=state.size, stored=state.stored)
                return


def record_of(received: Received) -> AuditRecord:
    """What the audit log keeps of a received message."""
    if isinstance(received, RefusedEvent):
        return AuditRecord(
            stream_sequence=received.stream_sequence,
            subject=received.subject,
            raw_headers=tuple(received.headers.items()),
            data=received.data,
            verdict="refused",
            reason_code=received.error.code,
            reason=str(received.error),
            stored_at=received.stored_at,
            run=received.run,
        )
    event = received.event
    return AuditRecord(
        stream_sequence=received.stream_sequence,
        subject=event.subject,
        raw_headers=tuple(event.headers.items()),
        data=event.data,
        verdict="accepted",
        stored_at=received.stored_at,
        digest=event.digest,
        event_id=event.id,
        type=event.type,
        source_role=event.role,
        source_agent=event.agent,
        run=event.run,
        cause=event.cause,
        sender_key=event.key,
        sender_sequence=event.sequence,
        event_time=event.time,
    )


def _broken(received: StoredEvent, expected: int) -> Draft:
    event = received.event
    payload = ChainBroken(
        sender=event.source,
        key=event.key,
        expected_sequence=expected,
        found_sequence=event.sequence,
        stream_sequence=received.stream_sequence,
    )
    event_id = derive_id("chain.broken", str(received.stream_sequence))
    return Draft(run=SYSTEM_RUN, payload=payload, id=event_id, cause=event.id)


async def _fill(buffer: asyncio.Queue[Received], events: AsyncGenerator[Received]) -> None:
    async with aclosing(events):
        async for received in events:
            await buffer.put(received)


async def _next_batch(buffer: asyncio.Queue[Received]) -> list[Received]:
    batch = [await buffer.get()]
    while len(batch) < BATCH and not buffer.empty():
        batch.append(buffer.get_nowait())
    return batch
