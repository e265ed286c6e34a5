"""The auditor: reads the whole log in order, verifies it, and writes the audit log.

Its place is the one that Postgres committed last. A crash anywhere repeats a batch,
which the audit log recognises. While Postgres is down it waits; nothing is skipped.

What it has written it compares with the stream, again and again. A stream that has lost
events raises an alarm and is audited further; one that came back from an earlier state
raises an alarm and is not, because its new events stand on places that are taken. Both are
put right by `swarm recover`, after which the auditor goes on from its place.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from functools import partial
from typing import Final, Protocol, TypeVar

import structlog

from actors.causes import Causes, uncaused
from actors.chains import alarm_of, broken_at
from actors.intake import Intake
from actors.loss import unread
from actors.task_end import end_all
from actors.watch import Copy, StreamWatch
from bus.errors import SequenceError, SwarmError
from bus.event import StoredEvent
from bus.log import EventLog
from bus.payloads import LogLost
from bus.received import Received, RefusedEvent
from bus.signature_checks import SignatureChecks, signature_checks
from bus.signing import ChainHead
from bus.subjects import ALL_EVENTS, subject_for
from bus.trust import ChainTracker
from storage.audit import LogState
from storage.audit_rows import Position
from storage.errors import AuditRewritten
from storage.leaf import AuditRecord

log = structlog.get_logger()

BATCH: Final = 1_024
BUFFERED_EVENTS: Final = 4_096
RETRY_S: Final = 0.5
CHECK_S: Final = 5.0
"""Between two looks at whether the stream still holds what was audited."""
STRETCHES_A_LOOK: Final = 2
LOGGED: Final = 10

Sign = Callable[[int, bytes], str]
T = TypeVar("T")


class Register(Protocol):
    """The ids of all events that the audit log has."""

    async def unknown(self, event_ids: Sequence[str]) -> list[str]:
        """Those of these ids that no accepted event has."""
        ...


class AuditLog(Copy, Register, Protocol):
    """Where records go: all of a batch or nothing, a repeated batch does no harm."""

    async def position(self) -> Position:
        """How far the audit log has come."""
        ...

    async def chain_heads(self) -> dict[str, ChainHead]:
        """Where the chain of each sender goes on."""
        ...

    async def append(self, batch: Sequence[AuditRecord], sign: Sign) -> LogState:
        """Store a batch and sign the new checkpoint."""
        ...


class Auditor:
    """One reader of everything."""

    def __init__(
        self,
        event_log: EventLog,
        audit_log: AuditLog,
        sign: Sign,
        *,
        check_s: float = CHECK_S,
    ) -> None:
        self._log = event_log
        self._audit = audit_log
        self._sign = sign
        self._chains = ChainTracker()
        self._causes = Causes()
        self._check_s = check_s
        self._watch = StreamWatch(event_log.connection, audit_log)
        self._untold = False
        self._pauses = False

    async def run(self) -> None:
        """Audit until cancelled.

        Raises:
            BusUnreachable: the connection was closed on our side.
            AuditError: the audit log cannot be trusted or written.
        """
        while True:
            try:
                position = await self._audit.position()
                if await self._look():
                    await self._session(position.stream_sequence)
                    continue
            except AuditRewritten as error:  # a batch repeated, by now from another stream
                log.error("audit.not_over_itself", reason=str(error))
                await asyncio.sleep(RETRY_S)
            except SwarmError as error:
                if not error.retryable or self._log.connection.is_closed:
                    raise
                log.info("audit.starts_again", reason=str(error))
                await asyncio.sleep(RETRY_S)
            else:
                await asyncio.sleep(self._check_s)

    async def _session(self, after: int) -> None:
        """Audit until the reader breaks or the stream turns out to have been set back."""
        async with signature_checks() as checks:
            await self._audit_after(after, checks)

    async def _audit_after(self, after: int, checks: SignatureChecks | None) -> None:
        self._chains = ChainTracker.resume(await self._audit.chain_heads())
        self._causes = Causes()
        buffer = Intake(BUFFERED_EVENTS)
        reading = asyncio.create_task(self._read(buffer, after, checks))
        watching = asyncio.create_task(self._keep_watch())
        watching.add_done_callback(lambda _: reading.cancel())
        try:
            batch = await _next_batch(buffer, reading)
            if batch and not await self._look():
                return  # looked before the reader was there; it does not outlive a restart
            while batch:
                if not await self._is_whole(batch, after):
                    return
                await self._alarm(batch)
                await self._store([record_of(received) for received in batch])
                after = batch[-1].stream_sequence
                batch = await _next_batch(buffer, reading)
        finally:
            await end_all((reading, watching))
        for task in (reading, watching):
            if not task.cancelled():
                task.result()

    async def _read(
        self, buffer: asyncio.Queue[Received], after: int, checks: SignatureChecks | None
    ) -> None:
        following = self._log.follow_once(ALL_EVENTS, after=after, checks=checks)
        async with aclosing(following) as events:
            async for received in events:
                await buffer.put(received)

    async def _keep_watch(self) -> None:
        """Look now and then; ends when the stream was set back."""
        while True:
            await asyncio.sleep(self._check_s)
            try:
                if not await self._look():
                    return
                for _ in range(STRETCHES_A_LOOK):
                    self._untold |= await self._watch.patrol()
                if self._untold:
                    await self._report()
            except SwarmError as error:
                if not error.retryable:
                    raise
                log.info("audit.could_not_look", reason=str(error))

    async def _look(self) -> bool:
        """Whether the stream goes on from where the audit log ends."""
        seen, grown = await self._watch.look()
        self._untold |= grown
        if self._untold:
            await self._report()
        if seen.rewound != self._pauses:
            self._pauses = seen.rewound
            action = "audit.pauses" if seen.rewound else "audit.goes_on"
            log.error(action, audited=seen.reach.stream_sequence)
        return not seen.rewound

    async def _report(self) -> None:
        """Say what the stream has lost, unless that is the last thing that was said of it."""
        loss = self._watch.loss
        for lost in loss.first(LOGGED):
            log.error(
                "audit.log_lost",
                how=lost.how,
                stream_sequence=lost.stream_sequence,
                sender=lost.sender,
                sequence=lost.sequence,
                of=len(loss.known),
            )
        draft = loss.draft()
        last = await self._log.last_on(subject_for(draft.run, LogLost.TYPE))
        if not isinstance(last, StoredEvent) or last.event.id != draft.id:
            await self._log.append(draft)
        self._untold = False

    async def _is_whole(self, batch: Sequence[Received], after: int) -> bool:
        """Whether nothing that can be read is left out of the batch, or before it.

        What cannot be read raises an alarm; whose events those were, the chains of their
        senders tell.
        """
        for received in batch:
            missed = range(after + 1, received.stream_sequence)
            after = received.stream_sequence
            for sequence in missed[:BATCH]:
                if await self._log.connection.message_at(sequence) is not None:
                    return False
            if missed:
                log.error("audit.unread", first=missed[0], last=missed[-1])
                await self._log.append(unread(missed[0], missed[-1]))
        return True

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
                await self._log.append(alarm_of(broken_at(received, expected), received))
        await self._miss_causes(batch)

    async def _miss_causes(self, batch: Sequence[Received]) -> None:
        """Say which events answer one that is not in the log: it was lost, be its chain whole."""
        asked = self._causes.take(batch)
        if not asked:
            return
        for cause in await _once_it_answers(partial(self._audit.unknown, list(asked))):
            for received in asked[cause]:
                event = received.event
                log.error(
                    "audit.cause_missing",
                    sender=event.source,
                    sequence=event.sequence,
                    stream_sequence=received.stream_sequence,
                )
                await self._log.append(uncaused(received))

    async def _store(self, records: Sequence[AuditRecord]) -> None:
        state = await _once_it_answers(partial(self._audit.append, records, self._sign))
        log.debug("audit.stored", size=state.size, stored=state.stored)


def record_of(received: Received) -> AuditRecord:
    """What the audit log keeps of a received message.

    An event that does not join its chain, or answers what is not there, is accepted: readers
    that began later cannot tell, and act on it. It is an alarm here, and a finding for whoever
    verifies the evidence.
    """
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
        cause=event.cause,
        sender_key=event.key,
        sender_sequence=event.sequence,
        event_time=event.time,
        content=event.content,
    )


async def _once_it_answers(ask: Callable[[], Awaitable[T]]) -> T:
    """What the audit log says; while Postgres is down, it is asked again and again."""
    while True:
        try:
            return await ask()
        except SwarmError as error:
            if not error.retryable:
                raise
            log.warning("audit.waits", reason=str(error))
            await asyncio.sleep(RETRY_S)


async def _next_batch(
    buffer: asyncio.Queue[Received], reading: asyncio.Task[None]
) -> list[Received]:
    """What has come, at least one; nothing once the reader has ended."""
    if buffer.empty():
        arrival = asyncio.ensure_future(buffer.get())
        try:
            await asyncio.wait((arrival, reading), return_when=asyncio.FIRST_COMPLETED)
        finally:
            arrival.cancel()
        batch = [arrival.result()] if arrival.done() and not arrival.cancelled() else []
    else:
        batch = [buffer.get_nowait()]
    while batch and len(batch) < BATCH and not buffer.empty():
        batch.append(buffer.get_nowait())
    return batch
