"""Making the stream whole again: every event that the audit log has, on its own sequence.

What the stream holds besides, because it was never audited or because it was written where
others had stood, follows behind, in its order. Killed at any moment, it can be run again: the
audit log is not touched, and what is nowhere else is in a file before the stream goes.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from actors.loss import Content, Difference, content, content_of, recorded_content
from actors.open_work import OpenWork
from bus.connection import Connection
from bus.errors import MalformedEvent, RefillFailed
from bus.event import Event, StoredEvent
from bus.nkey import AgentKey
from bus.payloads import StepAssigned
from bus.receipt import RECEIPT_HEADER, first_stored, receipt
from bus.received import Received
from bus.refill import MESSAGE_ID, Message, Refill, is_half_filled
from cluster.comparison import assess, check_audit_log
from cluster.survivors import Survivors
from storage.audit_reader import PAGE_EVENTS, AuditReader
from storage.errors import AuditCorrupt
from storage.leaf import AuditRecord, RawHeaders
from storage.objects import AuditObjects, OwedObject, reference_of

SAVED: Final = "saved"
DELETED: Final = "deleted"
REFILLED: Final = "refilled"
VERIFIED: Final = "verified"
"""Where a recovery may be interrupted, in order; tests do."""

Reached = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Starts:
    """Where work queues are to begin, by role, and where those of the other roles."""

    by_role: Mapping[str, int]
    others: int

    def of(self, roles: Iterable[str]) -> dict[str, int]:
        """The same for these roles."""
        return {role: self.by_role.get(role, self.others) for role in roles}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """What a recovery did.

    Attributes:
        lost: what the stream had lost, in order.
        interrupted: whether it finished what an earlier one had begun.
        refilled: events put back; 0 if the stream was whole.
        survivors: events that only the stream had, kept behind the others.
        seconds: for the refill itself.
        starts: where the work queues are to begin.
        objects: how many objects were put back.
        gone: objects that are lost in the audit log as well.
    """

    lost: tuple[Difference, ...] = ()
    interrupted: bool = False
    refilled: int = 0
    survivors: int = 0
    seconds: float = 0.0
    starts: Starts | None = None
    objects: int = 0
    gone: tuple[OwedObject, ...] = ()

    @property
    def was_whole(self) -> bool:
        """Whether there was nothing to do."""
        return not (self.lost or self.interrupted or self.objects or self.gone)


def _pass(_: str) -> None:
    """Nobody waits for a moment."""


async def recover_stream(
    connection: Connection,
    audit: AuditReader,
    objects: AuditObjects,
    survivors: Survivors,
    *,
    root: AgentKey,
    reached: Reached = _pass,
) -> Recovered:
    """Make the stream of events equal to the audit log where it is not.

    The survivors' file stays: discard it once the broker has everything on its disk.

    Args:
        connection: of a credential with `bus.refill.permissions`; nobody else publishes.
        audit: the audit log.
        objects: what it keeps of large payloads; those of the stream are not touched.
        survivors: where to keep what only the stream has.
        root: says of each event when it was first stored.
        reached: is called at each named moment.

    Raises:
        AuditCorrupt: the audit log does not add up; nothing was changed.
        RefillFailed: the stream did not take a message, or is not what it should be.
        BusUnreachable: the broker did not answer.
        StorageError: Postgres did not.
    """
    found = await assess(connection, audit)
    interrupted = survivors.exist or await is_half_filled(connection)
    if not found.lost and not interrupted:
        return Recovered()
    check = await check_audit_log(audit)
    if check.altered:
        raise AuditCorrupt(f"The audit log cannot be refilled from: {check.altered[0]}.")
    kept = await _only_in_stream(found.unrecorded, survivors.load(), audit, root.public)
    survivors.save(kept)
    reached(SAVED)
    began = time.monotonic()
    filling = _Filling(connection, audit, objects, root, last_recorded=found.last_recorded)
    await filling.run(kept, reached)
    seconds = time.monotonic() - began
    last = await _verify(connection, audit, kept)
    reached(VERIFIED)
    return Recovered(
        lost=found.lost,
        interrupted=interrupted,
        refilled=filling.refilled,
        survivors=len(kept),
        seconds=seconds,
        starts=filling.starts(last),
    )


class _Filling:
    """The stream deleted and filled again."""

    def __init__(
        self,
        connection: Connection,
        audit: AuditReader,
        objects: AuditObjects,
        root: AgentKey,
        *,
        last_recorded: int,
    ) -> None:
        self._refill = Refill(connection)
        self._audit = audit
        self._objects = objects
        self._root = root
        self._end = last_recorded
        self._work = OpenWork()
        self.refilled = 0

    async def run(self, kept: Sequence[Message], reached: Reached) -> None:
        """Everything recorded that the stream must hold, then what only the stream had."""
        await self._refill.begin()
        reached(DELETED)
        position = 0
        while rows := await self._audit.owed(after=position, until=self._end):
            for row in rows:
                await self._put_back(row.record)
            position = rows[-1].record.stream_sequence
        await self._refill.skip_to(self._end + 1)
        for message in behind(kept, self._end):
            await self._refill.put(with_receipt(message, self._root))
            self._note(message, only=StepAssigned.TYPE)  # nobody has verified it yet
        await self._refill.end()
        reached(REFILLED)

    def starts(self, last: int) -> Starts:
        """By role, where its queue is to begin: at its first open assignment, or at the end."""
        return Starts(by_role=self._work.starts(), others=last + 1)

    async def _put_back(self, record: AuditRecord) -> None:
        message = message_of(record)
        await self._refill.put(with_receipt(message, self._root))
        if record.verdict == "accepted":
            self._note(message, body=await self._object_of(record))
        self.refilled += 1

    async def _object_of(self, record: AuditRecord) -> bytes | None:
        """Its payload where that is an object; without it, an assignment counts as open."""
        reference = reference_of(dict(record.raw_headers))
        if reference is None:
            return None
        with suppress(AuditCorrupt):
            return await self._objects.content(bytes.fromhex(reference.digest))
        return None

    def _note(
        self, message: Message, *, only: str | None = None, body: bytes | None = None
    ) -> None:
        with suppress(MalformedEvent):
            event = Event.parse(message.subject, dict(message.headers), message.data)
            if only in (None, event.type):
                event = replace(event, content=body)
                at = message.sequence
                self._work.note(StoredEvent(event=event, stream_sequence=at, stored_at=event.time))


def message_of(record: AuditRecord) -> Message:
    """A recorded event as a message; by its id the stream knows a repeat, as it did before."""
    message = _message(record.stream_sequence, record.subject, record.raw_headers, record.data)
    return replace(message, stored_at=record.stored_at) if record.verdict == "accepted" else message


def with_receipt(message: Message, root: AgentKey) -> Message:
    """The message with word of when it was first stored: its credential has ended since then."""
    if message.stored_at is None:
        return message
    try:
        event = Event.parse(message.subject, dict(message.headers), message.data)
    except MalformedEvent:
        return message
    text = receipt(root, event, message.sequence, message.stored_at)
    return replace(message, headers=(*message.headers, (RECEIPT_HEADER, text)))


def survivor(received: Received, root: str) -> Message:
    """A message of the stream as it is to be kept; the root has signed receipts in it."""
    at = received.stream_sequence
    if isinstance(received, StoredEvent):
        event = received.event
        message = _message(at, event.subject, tuple(event.headers.items()), event.data)
        earlier = first_stored(received.receipt or "", event, at, (root,))
        return replace(message, stored_at=earlier or received.stored_at)
    return _message(at, received.subject, tuple(received.headers.items()), received.data)


def behind(kept: Sequence[Message], end: int) -> list[Message]:
    """The messages on the sequences after the end, in their order."""
    return [replace(message, sequence=at) for at, message in enumerate(kept, start=end + 1)]


def _message(sequence: int, subject: str, headers: RawHeaders, data: bytes) -> Message:
    with suppress(MalformedEvent):
        event = Event.parse(subject, dict(headers), data)
        if len(event.headers) == len(headers):
            headers = (*headers, (MESSAGE_ID, event.id))
    return Message(sequence=sequence, subject=subject, headers=headers, data=data)


async def _only_in_stream(
    unrecorded: Sequence[Received], saved: Sequence[Message], audit: AuditReader, root: str
) -> list[Message]:
    """What was saved earlier, then what stands neither there nor in the audit log."""
    kept = list(saved)
    known = {_said(message) for message in saved}
    for begin in range(0, len(unrecorded), PAGE_EVENTS):
        part = unrecorded[begin : begin + PAGE_EVENTS]
        ids = [received.event.id for received in part if isinstance(received, StoredEvent)]
        rows = await audit.with_ids(ids)
        known.update(recorded_content(row.record) for row in rows)
        for received in part:
            said = content_of(received)
            if said not in known:
                known.add(said)
                kept.append(survivor(received, root))
    return kept


async def _verify(connection: Connection, audit: AuditReader, kept: Sequence[Message]) -> int:
    """That the stream is what it should be; its last sequence."""
    found = await assess(connection, audit)
    if found.lost:
        raise RefillFailed(f"the stream still lacks {found.lost[0]}")
    if [content_of(received) for received in found.unrecorded] != [_said(m) for m in kept]:
        raise RefillFailed("the stream does not end with what only it had")
    return found.last_sequence or 0


def _said(message: Message) -> Content:
    return content(message.subject, message.headers, message.data)
